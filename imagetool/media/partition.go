package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrNoTable is wrapped when a medium has no partition table that a cache
// partition could be added to.
var ErrNoTable = errors.New("the medium has no partition table with a free place")

// Rest stands for all that is left of a device.
const Rest = -1

const (
	mbrTable  = 446
	mbrEntry  = 16
	typeFAT32 = 0x0c // with logical block addresses
	alignment = 1 << 20
)

// addCache adds a partition with an empty cache of size bytes behind a medium
// of length bytes that is in f. On a device size may be Rest.
func addCache(f *os.File, length, size int64, device bool) error {
	mbr := make([]byte, sector)
	if _, err := f.ReadAt(mbr, 0); err != nil {
		return fmt.Errorf("read the partition table: %w", err)
	}
	if mbr[510] != 0x55 || mbr[511] != 0xaa {
		return fmt.Errorf("%w: it is no hybrid image", ErrNoTable)
	}
	start := (length + alignment - 1) / alignment * alignment
	free := -1
	for i := range 4 {
		e := mbr[mbrTable+i*mbrEntry:][:mbrEntry]
		if e[4] == 0 {
			if free < 0 {
				free = i
			}
			continue
		}
		if e[4] == 0xee {
			return fmt.Errorf("%w: it has a GPT", ErrNoTable)
		}
		end := (int64(binary.LittleEndian.Uint32(e[8:])) + int64(binary.LittleEndian.Uint32(e[12:]))) * sector
		start = max(start, (end+alignment-1)/alignment*alignment)
	}
	if free < 0 {
		return fmt.Errorf("%w: all four places are taken", ErrNoTable)
	}
	if device {
		end, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return fmt.Errorf("measure the device: %w", err)
		}
		room := (end - start) / alignment * alignment
		if size == Rest {
			size = min(room, maxFAT)
		}
		if size > room {
			return fmt.Errorf("%w: %d bytes, the device has room for %d", ErrCacheSize, size, max(room, 0))
		}
	} else if size == Rest {
		return fmt.Errorf("%w: a file has no rest, name a size", ErrCacheSize)
	}
	size = size / sector * sector
	if !device {
		if err := f.Truncate(start + size); err != nil {
			return err
		}
	}
	if err := formatFAT(f, start, size, uint32(start/sector), device); err != nil {
		return err
	}
	e := mbr[mbrTable+free*mbrEntry:][:mbrEntry]
	copy(e, []byte{0, 0xfe, 0xff, 0xff, typeFAT32, 0xfe, 0xff, 0xff}) // no CHS addresses
	binary.LittleEndian.PutUint32(e[8:], uint32(start/sector))
	binary.LittleEndian.PutUint32(e[12:], uint32(size/sector))
	if _, err := f.WriteAt(mbr, 0); err != nil {
		return fmt.Errorf("write the partition table: %w", err)
	}
	return nil
}
