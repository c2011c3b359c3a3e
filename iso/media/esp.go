package media

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/inetboot/inetboot/iso/uki"
)

const sector = 512

// systemPartition returns a FAT file system whose only file is the program, as
// the default one: FAT12 or, for the large medium, FAT16. The program's parts are the last bytes of it, in one piece
// and at multiples of uki.Align.
func systemPartition(ctx context.Context, work string, program *uki.Image) ([]byte, error) {
	const (
		cluster    = uki.Align / sector // sectors
		folders    = 2                  // clusters, for EFI and EFI/BOOT
		rootFolder = 1                  // sectors, for 16 entries
		// Microsoft's FAT specification 1.03, section 3.5: the number of clusters
		// makes the kind of file system.
		maxFAT12, maxFAT16 = 4084, 65524
	)
	clusters := folders + roundUp(len(program.Data), uki.Align)/uki.Align
	if clusters > maxFAT16 {
		return nil, fmt.Errorf("make the EFI system partition: %d clusters, FAT16 has %d: %w", clusters, maxFAT16, ErrTooLarge)
	}
	bits := 12
	if clusters > maxFAT12 {
		bits = 16
	}
	fat := roundUp((clusters+2)*bits, 8*sector) / (8 * sector)
	// The boot sector, and what makes the clusters begin at a multiple of their size.
	reserved := 1
	for (reserved+fat+rootFolder)%cluster != 0 {
		reserved++
	}
	sectors := reserved + fat + rootFolder + clusters*cluster

	path, file := filepath.Join(work, "esp.img"), filepath.Join(work, "bootx64.efi")
	if err := os.WriteFile(file, program.Data, 0o644); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"mformat", "-C", "-i", path, "-T", fmt.Sprint(sectors), "-h", "1", "-s", "1", "-c", fmt.Sprint(cluster), "-R", fmt.Sprint(reserved),
			"-r", fmt.Sprint(rootFolder), "-d", "1", "-L", fmt.Sprint(fat), "-N", "494e4554", "-v", "INETBOOT", "::"},
		{"mmd", "-i", path, "::/EFI", "::/EFI/BOOT"},
		{"mcopy", "-i", path, file, "::/EFI/BOOT/BOOTX64.EFI"},
	} {
		if err := tool(ctx, args[0], args[1:]...); err != nil {
			return nil, fmt.Errorf("make the EFI system partition: %w", err)
		}
	}
	esp, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("make the EFI system partition: %w", err)
	}
	if len(esp) != sectors*sector || !bytes.HasSuffix(esp, program.Data) {
		return nil, fmt.Errorf("make the EFI system partition: the program of %d bytes is not the end of the %d that mtools wrote", len(program.Data), len(esp))
	}
	// Where an MBR has its table mtools writes a partition as large as the file
	// system, which firmware then looks into before it takes the whole for FAT.
	clear(esp[partitionTable:bootSignature])
	return esp, nil
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }
