package download

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/inetboot/inetboot/catalog"
)

// Memory is what a machine has, in bytes.
type Memory struct {
	Physical  int64 // all of it
	Available int64 // what can be used now
}

// ErrMemory is wrapped when a machine has too little memory for an image.
var ErrMemory = errors.New("not enough memory")

const (
	// copies is how often kernel and initrd are in memory at the worst moment:
	// as downloaded, in the kernel's read buffers, and in their places for the
	// jump (Linux, kernel/kexec_file.c).
	copies = 3
	// reserve is what preboot goes on to need meanwhile.
	reserve = 16 << 20
	// tolerance is the part of the memory that firmware may keep to itself.
	tolerance = 16
)

// Check returns an error that wraps ErrMemory and says how much is missing if
// the image cannot be started in m. A zero member of m is not judged. The
// initrds of more are loaded with the image.
func (m Memory) Check(img *catalog.Image, more ...*catalog.Image) error {
	man := img.Manifest()
	size := man.Kernel.Size + man.Initrd.Size
	for _, b := range below(&man) {
		size += b.Size
	}
	for _, i := range more {
		size += i.Manifest().Initrd.Size
	}
	for _, f := range man.Root.Files {
		size += f.Index.Size
	}
	if need := copies*size + reserve; m.Available > 0 && m.Available < need {
		return fmt.Errorf("%w: starting %s %s takes %s (kernel and initrd of %s, up to %d times), %s are free: %s are missing",
			ErrMemory, man.Name, man.Version, megabytes(need), megabytes(size), copies, wholeMegabytes(m.Available), megabytes(need-m.Available))
	}
	return nil
}

// Compare returns an error that wraps ErrMemory and says how much is missing if
// the image's publisher says that it needs more than m, which may be an
// estimate.
func (m Memory) Compare(img *catalog.Image) error {
	man := img.Manifest()
	if need := man.Needs.Memory; m.Physical > 0 && m.Physical+m.Physical/tolerance < need {
		return fmt.Errorf("%w: %s %s needs a machine with %s, this one has %s: %s are missing",
			ErrMemory, man.Name, man.Version, megabytes(need), wholeMegabytes(m.Physical), megabytes(need-m.Physical))
	}
	return nil
}

// ReadMemory asks the kernel. iomem is /proc/iomem as root reads it, meminfo
// /proc/meminfo.
func ReadMemory(iomem, meminfo string) (Memory, error) {
	var m Memory
	for _, f := range []struct {
		path  string
		parse func(io.Reader) int64
		to    *int64
	}{{iomem, parseIOMem, &m.Physical}, {meminfo, parseMemInfo, &m.Available}} {
		r, err := os.Open(f.path)
		if err != nil {
			return m, fmt.Errorf("find out how much memory there is: %w", err)
		}
		*f.to = f.parse(r)
		r.Close()
	}
	return m, nil
}

// parseIOMem adds up the ranges of "System RAM"; 0 if there are none.
func parseIOMem(r io.Reader) int64 {
	var sum int64
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		where, what, ok := strings.Cut(sc.Text(), " : ")
		if !ok || what != "System RAM" || strings.HasPrefix(where, " ") {
			continue
		}
		a, b, _ := strings.Cut(where, "-")
		first, err1 := strconv.ParseUint(a, 16, 62)
		last, err2 := strconv.ParseUint(b, 16, 62)
		if err1 == nil && err2 == nil && last > first {
			sum += int64(last - first + 1)
		}
	}
	return sum
}

// parseMemInfo returns MemAvailable; 0 if it is not there.
func parseMemInfo(r io.Reader) int64 {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		if v, ok := strings.CutPrefix(sc.Text(), "MemAvailable:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(v, "kB")), 10, 50)
			if err == nil && n > 0 {
				return n << 10
			}
		}
	}
	return 0
}

// What is needed and what is missing are rounded up, what there is down, so that
// they add up.

func megabytes(n int64) string { return fmt.Sprintf("%d MB", (n+1<<20-1)>>20) }

func wholeMegabytes(n int64) string { return fmt.Sprintf("%d MB", n>>20) }
