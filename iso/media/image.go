package media

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
)

// Places in a boot sector, in bytes.
const (
	partitionTable = 446
	bootSignature  = 510
)

// readUnit is what GRUB reads at a time, in bytes, at multiples of it: its disk
// cache's unit (GRUB_DISK_CACHE_SIZE). A BIOS does not read over the end of a CD,
// and what GRUB then makes of the last unit is not what is there. So the medium
// ends with a whole one.
const readUnit = 32 << 10

// file is a file below /boot in the ISO file system.
type file struct {
	name string
	data []byte
}

// image writes the ISO with the files side by side at its end, in their order,
// so that together they are the EFI system partition esp, and returns it. It
// has a multiple of readUnit bytes.
func image(ctx context.Context, grub, work string, bios []byte, files []file, esp []byte) ([]byte, error) {
	tree := filepath.Join(work, "tree")
	if err := os.MkdirAll(filepath.Join(tree, "boot"), 0o755); err != nil {
		return nil, err
	}
	out := filepath.Join(work, "medium.iso")
	args := []string{"-as", "mkisofs", "-quiet", "-o", out, "-V", "INETBOOT", "-no-pad",
		"--modification-date=2023111422132000",
		"--set_all_file_dates", "2023111422132000",
		"-b", "boot/bios.img", "-c", "boot/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info",
		"--grub2-mbr", filepath.Join(grub, "i386-pc", "boot_hybrid.img"),
		"-eltorito-alt-boot", "-e", "boot/" + files[0].name, "-no-emul-boot",
	}
	// Files with more weight lie further to the front.
	for i, f := range append([]file{{"bios.img", bios}}, files...) {
		path := filepath.Join(tree, "boot", f.name)
		if err := os.WriteFile(path, f.data, 0o644); err != nil {
			return nil, err
		}
		args = append(args, "--sort-weight", fmt.Sprint(100-i), "/boot/"+f.name)
	}
	if err := tool(ctx, "xorriso", append(args, tree)...); err != nil {
		return nil, fmt.Errorf("write the ISO: %w", err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("write the ISO: %w", err)
	}
	start := bytes.Index(data, esp[:sector])
	if start < 0 || !bytes.Equal(data[start:], esp) {
		return nil, fmt.Errorf("write the ISO: xorriso did not put the EFI system partition of %d bytes in one piece at the end of %d bytes", len(esp), len(data))
	}
	data = append(data, make([]byte, roundUp(len(data), readUnit)-len(data))...)
	if err := announce(data, start); err != nil {
		return nil, err
	}
	return data, partition(data, start)
}

// announce writes into the El Torito catalog how long the EFI system partition
// at start is: xorriso knows only of the file that it begins in. (El Torito
// specification 1.0, figures 2 to 5; UEFI specification 2.10, 13.3.2.1.)
func announce(data []byte, start int) error {
	const (
		block      = 2048
		bootRecord = 17 * block
		entry      = 32 // bytes
		second     = 3  // entry: after validation, the first, and a header
	)
	le := binary.LittleEndian
	catalog := int(le.Uint32(data[bootRecord+0x47:])) * block
	if catalog <= bootRecord || catalog+block > len(data) {
		return fmt.Errorf("write the El Torito catalog: block %d is not in the ISO", catalog/block)
	}
	e := data[catalog+second*entry:][:entry]
	if at := int(le.Uint32(e[8:])) * block; e[0] != 0x88 || at != start {
		return fmt.Errorf("write the El Torito catalog: the entry for UEFI points to byte %d, the EFI system partition is at %d", at, start)
	}
	sectors := (len(data) - start) / sector
	if sectors > math.MaxUint16 {
		sectors = 0 // to the end of the medium
	}
	le.PutUint16(e[6:], uint16(sectors))
	return nil
}

// partition writes the MBR's table: the ISO file system, active because some
// BIOSes start nothing else, up to the EFI system partition, which is the rest.
// They may not overlap: UEFI firmware takes such a table for none at all.
func partition(data []byte, start int) error {
	const (
		entry             = 16 // bytes
		active            = 0x80
		typeLinux, typeEF = 0x83, 0xef
	)
	if !bytes.Equal(data[bootSignature:sector], []byte{0x55, 0xaa}) {
		return fmt.Errorf("write the partition table: there is no MBR in the ISO")
	}
	clear(data[partitionTable:bootSignature])
	for i, p := range []struct {
		flag, kind byte
		from, to   int // bytes
	}{{active, typeLinux, 0, start}, {0, typeEF, start, len(data)}} {
		e := data[partitionTable+i*entry:][:entry]
		copy(e, []byte{p.flag, 0xfe, 0xff, 0xff, p.kind, 0xfe, 0xff, 0xff}) // no CHS addresses
		binary.LittleEndian.PutUint32(e[8:], uint32(p.from/sector))
		binary.LittleEndian.PutUint32(e[12:], uint32((p.to-p.from)/sector))
	}
	return nil
}
