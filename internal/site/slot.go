package site

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/inetboot/inetboot/internal/newc"
)

// SlotSize is the length of the archive in bytes. Its place on a medium is
// fixed, so it can be replaced there without writing the medium anew.
const SlotSize = 16384

// Marker is the content of the archive's first file, inetboot/slot.
const Marker = "INETBOOT-SITE-SLOT-V1\n"

// ErrNoSlot is wrapped when a medium has no slot, or more than one.
var ErrNoSlot = errors.New("no single site slot found")

// EmptySlot returns the archive of a medium that belongs to nobody yet.
func EmptySlot() []byte {
	b, err := archive(nil)
	if err != nil {
		panic(err) // constant input
	}
	return b
}

// Archive returns the archive that holds s and the root: SlotSize bytes.
func Archive(s *Site, root []byte) ([]byte, error) {
	conf, err := s.Marshal()
	if err != nil {
		return nil, err
	}
	files := []newc.Record{{Name: strings.TrimPrefix(Path, "/"), Perm: 0o644, Data: conf}}
	if len(root) > 0 {
		files = append(files, newc.Record{Name: strings.TrimPrefix(RootPath, "/"), Perm: 0o644, Data: root})
	}
	return archive(files)
}

func archive(files []newc.Record) ([]byte, error) {
	// The directory comes first: the kernel does not make parents of files.
	b := newc.Archive(append([]newc.Record{
		{Name: "inetboot", Perm: 0o755, Dir: true},
		{Name: "inetboot/slot", Perm: 0o644, Data: []byte(Marker)},
	}, files...))
	if len(b) > SlotSize {
		return nil, fmt.Errorf("%w: the site archive would have %d bytes, the slot has %d: use fewer certificates or root keys", ErrInvalid, len(b), SlotSize)
	}
	return append(b, make([]byte, SlotSize-len(b))...), nil
}

// FindSlot returns the offset in bytes of the one slot in a medium of size
// bytes. Errors wrap ErrNoSlot.
func FindSlot(medium io.ReaderAt, size int64) (int64, error) {
	// Everything of an archive up to the end of the marker's content is the
	// same in all of them, so it is one long pattern.
	head := EmptySlot()
	head = head[:bytes.Index(head, []byte(Marker))+len(Marker)]
	found := int64(-1)
	const step = 1 << 20
	buf := make([]byte, step+len(head)-1)
	for base := int64(0); base < size; base += step {
		n, err := medium.ReadAt(buf, base)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("look for the site slot: %w", err)
		}
		for at := 0; ; {
			i := bytes.Index(buf[at:n], head)
			if i < 0 || at+i >= step {
				break
			}
			if found >= 0 {
				return 0, fmt.Errorf("%w: at bytes %d and %d", ErrNoSlot, found, base+int64(at+i))
			}
			found = base + int64(at+i)
			at += i + 1
		}
	}
	if found < 0 || found+SlotSize > size {
		return 0, fmt.Errorf("%w: this is not a boot medium of InetBoot, or it is cut short", ErrNoSlot)
	}
	return found, nil
}
