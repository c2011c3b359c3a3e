package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrCacheSize is wrapped when a cache partition cannot have the size that
// was asked for.
var ErrCacheSize = errors.New("a cache partition cannot have this size")

// CacheFolder is the folder by which machines know a cache.
const CacheFolder = "inetboot-cache"

const (
	sector      = 512
	minClusters = 65525 // fewer make it FAT16 for every reader
	maxFAT      = 2 << 40
	minCache    = 64 << 20
	reserved    = 32 // sectors before the first FAT
	fats        = 2
)

// formatFAT writes an empty FAT32 file system of size bytes at offset at, with
// the folder for the cache in it, as "FAT: General Overview of On-Disk Format",
// version 1.03, has it. What is there otherwise is not read: the tables are
// written anew as far as they say anything, so that on a file that is all zero
// only a few pages are written; wipe has the rest of them zeroed, for devices.
func formatFAT(w io.WriterAt, at, size int64, hidden uint32, wipe bool) error {
	if size < minCache || size > maxFAT {
		return fmt.Errorf("%w: %d bytes, want 64 MiB to 2 TiB", ErrCacheSize, size)
	}
	sectors := uint32(min(size/sector, 1<<32-1))
	perCluster, fatSectors := layout(sectors)
	clusters := (sectors - reserved - fats*fatSectors) / perCluster
	le := binary.LittleEndian

	boot := make([]byte, sector)
	copy(boot, "\xeb\x58\x90INETBOOT")
	le.PutUint16(boot[11:], sector)
	boot[13] = byte(perCluster)
	le.PutUint16(boot[14:], reserved)
	boot[16] = fats
	boot[21] = 0xf8             // fixed disk
	le.PutUint16(boot[24:], 63) // geometry, which nobody uses any more
	le.PutUint16(boot[26:], 255)
	le.PutUint32(boot[28:], hidden)
	le.PutUint32(boot[32:], sectors)
	le.PutUint32(boot[36:], fatSectors)
	le.PutUint32(boot[44:], 2) // cluster of the root folder
	le.PutUint16(boot[48:], 1) // sector of FSInfo
	le.PutUint16(boot[50:], 6) // sector of the copy of this one
	boot[64] = 0x80
	boot[66] = 0x29
	le.PutUint32(boot[67:], 0x494e4243) // volume number
	copy(boot[71:], "INETBOOT   FAT32   ")
	copy(boot[90:], "\xf4\xeb\xfd") // hlt; jmp: it does not boot
	boot[510], boot[511] = 0x55, 0xaa

	const used = 2 // clusters: the root and the cache folder
	info := make([]byte, sector)
	copy(info, "RRaA")
	copy(info[484:], "rrAa")
	le.PutUint32(info[488:], clusters-used)
	le.PutUint32(info[492:], 2+used)
	info[510], info[511] = 0x55, 0xaa

	table := make([]byte, sector)
	for i, v := range []uint32{0x0ffffff8, 0x0fffffff, 0x0fffffff, 0x0fffffff} {
		le.PutUint32(table[4*i:], v)
	}
	data := int64(reserved+fats*fatSectors) * sector
	cluster := int64(perCluster) * sector
	put := func(off int64, b []byte) error {
		_, err := w.WriteAt(b, at+off)
		return err
	}
	if wipe {
		zeros := make([]byte, 1<<20)
		for off := int64(0); off < data+used*cluster; off += int64(len(zeros)) {
			if err := put(off, zeros[:min(int64(len(zeros)), data+used*cluster-off)]); err != nil {
				return err
			}
		}
	}
	root, folder := make([]byte, cluster), make([]byte, cluster)
	copy(root, rootFolder())
	copy(folder, dotEntries())
	for _, p := range []struct {
		off int64
		b   []byte
	}{
		{sector, info}, {7 * sector, info}, {6 * sector, boot},
		{reserved * sector, table}, {int64(reserved+fatSectors) * sector, table},
		{data, root}, {data + cluster, folder},
		{0, boot}, // the last one, so that half of it is not taken for a file system
	} {
		if err := put(p.off, p.b); err != nil {
			return err
		}
	}
	return nil
}

// layout chooses the sectors of a cluster, at most 8 where that leaves enough
// clusters and more on large disks, and the sectors of a FAT.
func layout(sectors uint32) (perCluster, fatSectors uint32) {
	perCluster = 8
	for perCluster > 1 && (sectors-reserved)/perCluster < minClusters+minClusters/32 {
		perCluster /= 2
	}
	for limit := uint64(8 << 30); perCluster >= 8 && perCluster < 64 && uint64(sectors)*sector > limit; limit *= 2 {
		perCluster *= 2
	}
	// Four bytes for each cluster and two more; each table takes sectors
	// from the clusters.
	per := perCluster*sector/4 + fats
	return perCluster, (sectors - reserved + 2*perCluster + per - 1) / per
}

// rootFolder has the volume's label and the cache folder, with its long name.
func rootFolder() []byte {
	le := binary.LittleEndian
	label := make([]byte, 32)
	copy(label, "INETBOOT   ")
	label[11] = 0x08
	short := entry("INETBO~1   ", 3)
	sum := byte(0)
	for _, c := range short[:11] {
		sum = sum>>1 + sum<<7 + c
	}
	out := label
	name := append([]byte(CacheFolder), 0)
	const per = 13 // characters of a long name in an entry
	n := (len(name) - 1 + per - 1) / per
	for i := n; i > 0; i-- {
		e := make([]byte, 32)
		e[0], e[11], e[13] = byte(i), 0x0f, sum
		if i == n {
			e[0] |= 0x40
		}
		for k, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
			v := uint16(0xffff)
			if p := (i-1)*per + k; p < len(name) {
				v = uint16(name[p])
			}
			le.PutUint16(e[at:], v)
		}
		out = append(out, e...)
	}
	return append(out, short...)
}

func dotEntries() []byte {
	return append(entry(".          ", 3), entry("..         ", 0)...)
}

// entry is a folder's entry, made at the beginning of FAT's time.
func entry(name string, cluster uint16) []byte {
	e := make([]byte, 32)
	copy(e, name)
	e[11] = 0x10
	const date = 1<<5 | 1 // 1 January 1980
	for _, at := range []int{16, 18, 24} {
		binary.LittleEndian.PutUint16(e[at:], date)
	}
	binary.LittleEndian.PutUint16(e[26:], cluster)
	return e
}
