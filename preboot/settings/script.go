package settings

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// defaultLimit is how long a script may take if nothing else is said.
const defaultLimit = 10 * time.Minute

// Script is a boot script and where it is.
type Script struct {
	Name   string        // in the catalog, or a path below the store's URLs if Digest is known
	Digest digest.SHA256 // zero: the catalog vouches for it
	Limit  time.Duration // how long it may take
}

// parseScript reads NAME[,sha256=HEX][,timeout=SECONDS]. An empty value is no
// script.
func parseScript(value string) (*Script, error) {
	if value == "" {
		return nil, nil
	}
	parts := strings.Split(value, ",")
	s := &Script{Name: parts[0], Limit: defaultLimit}
	if !storepath.ValidTarget(s.Name) {
		return nil, fmt.Errorf("%q is no name of a script", s.Name)
	}
	for _, p := range parts[1:] {
		name, v, _ := strings.Cut(p, "=")
		var err error
		switch name {
		case "sha256":
			s.Digest, err = digest.Parse(v)
		case "timeout":
			var n int
			if n, err = strconv.Atoi(v); err == nil && (n < 1 || n > 86400) {
				err = errors.New("not between 1 and 86400 seconds")
			}
			s.Limit = time.Duration(n) * time.Second
		default:
			err = errors.New("only sha256= and timeout= may follow the name")
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", p, err)
		}
	}
	return s, nil
}
