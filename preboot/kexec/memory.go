package kexec

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Kind says what a range of memory is, by the numbers of the BIOS's memory map
// (ACPI 6.5, table 15.3), which boot protocols use, too.
type Kind uint32

// Kinds of memory.
const (
	RAM      Kind = 1
	Reserved Kind = 2
	ACPI     Kind = 3 // tables, which can be used once they have been read
	NVS      Kind = 4 // to be preserved on hibernation
	Bad      Kind = 5
)

// Range is memory from First up to and without End.
type Range struct {
	First, End uint64
	Kind       Kind
}

// maxRanges bounds a memory map.
const maxRanges = 512

// machineMap reads the memory map of this machine, in order of addresses.
func machineMap() ([]Range, error) {
	f, err := os.Open("/proc/iomem")
	if err != nil {
		return nil, fmt.Errorf("read the memory map: %w", err)
	}
	defer f.Close()
	return ReadMap(f)
}

// ReadMap reads the machine's memory map as root reads it in /proc/iomem, in
// order of addresses.
func ReadMap(r io.Reader) ([]Range, error) {
	var out []Range
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		where, what, ok := strings.Cut(sc.Text(), " : ")
		if !ok || strings.HasPrefix(where, " ") { // parts of others
			continue
		}
		var k Kind
		switch strings.TrimSpace(what) {
		case "System RAM":
			k = RAM
		case "Reserved":
			k = Reserved
		case "ACPI Tables":
			k = ACPI
		case "ACPI Non-volatile Storage":
			k = NVS
		case "Unusable memory":
			k = Bad
		default:
			continue
		}
		a, b, _ := strings.Cut(where, "-")
		first, err1 := strconv.ParseUint(a, 16, 62)
		last, err2 := strconv.ParseUint(b, 16, 62)
		if err1 != nil || err2 != nil || last < first {
			return nil, fmt.Errorf("read the memory map: %q is no range", where)
		}
		if len(out) == maxRanges {
			return nil, fmt.Errorf("read the memory map: it has more than %d ranges", maxRanges)
		}
		out = append(out, Range{first, last + 1, k})
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read the memory map: %w", err)
	}
	if !slices.ContainsFunc(out, func(r Range) bool { return r.Kind == RAM && r.End > 1<<20 }) {
		return nil, fmt.Errorf("read the memory map: it shows no memory: it can be read by root alone")
	}
	slices.SortFunc(out, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	return out, nil
}
