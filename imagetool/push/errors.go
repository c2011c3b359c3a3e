package push

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/source"
)

// noRoom adds ErrNoRoom to errors that mean that the temporary folder is full.
func noRoom(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: name another folder with --tmp: %w", source.ErrNoRoom, err)
	}
	return err
}
