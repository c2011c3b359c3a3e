package site

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
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

// Archive returns the archive that holds s and the trust file: SlotSize bytes.
func Archive(s *Site, trust []byte) ([]byte, error) {
	conf, err := s.Marshal()
	if err != nil {
		return nil, err
	}
	files := []cpio.Record{cpio.StaticFile(strings.TrimPrefix(Path, "/"), string(conf), 0o644)}
	if len(trust) > 0 {
		files = append(files, cpio.StaticFile(strings.TrimPrefix(TrustPath, "/"), string(trust), 0o644))
	}
	return archive(files)
}

func archive(files []cpio.Record) ([]byte, error) {
	var buf bytes.Buffer
	w := cpio.Newc.Writer(&buf)
	// The directory comes first: the kernel does not make parents of files.
	head := []cpio.Record{
		cpio.Directory("inetboot", 0o755),
		cpio.StaticFile("inetboot/slot", Marker, 0o644),
	}
	for i, r := range append(head, files...) {
		r.Ino = uint64(i + 1)
		if err := w.WriteRecord(r); err != nil {
			return nil, fmt.Errorf("write %s into the site archive: %w", r.Name, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("end the site archive: %w", err)
	}
	if buf.Len() > SlotSize {
		return nil, fmt.Errorf("%w: the site archive would have %d bytes, the slot has %d: use fewer certificates", ErrInvalid, buf.Len(), SlotSize)
	}
	return append(buf.Bytes(), make([]byte, SlotSize-buf.Len())...), nil
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
