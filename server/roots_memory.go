package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/server/clients"
)

// What the contents of images take of the memory unless --roots-memory says
// otherwise, in bytes: a part of what there is, within bounds. The root of a
// Debian with what machines usually read of it fits many times into the upper
// one.
const (
	memoryPart  = 8
	leastMemory = 64 << 20
	mostMemory  = 4 << 30
)

// keep returns how many bytes of contents are kept in memory, about.
func (o *rootOptions) keep() (int64, error) {
	if o.memory != "" {
		n, err := clients.ParseSize(o.memory)
		if err != nil {
			return 0, fmt.Errorf("--roots-memory: %w", err)
		}
		return n, nil
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("find out how much memory there is (say it by --roots-memory): %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("find out how much memory there is (say it by --roots-memory): %w", err)
	}
	there := min(uint64(info.Totalram)*uint64(info.Unit), groupMemory("/sys/fs/cgroup", string(own)))
	return defaultMemory(there), nil
}

// defaultMemory returns the part of the memory that contents take.
func defaultMemory(there uint64) int64 {
	return int64(min(max(there/memoryPart, leastMemory), mostMemory))
}

// groupMemory returns how many bytes of memory a control group of version 2
// and those around it allow. root is where they are mounted, own is what
// /proc/self/cgroup says.
func groupMemory(root, own string) uint64 {
	most := uint64(math.MaxUint64)
	for line := range strings.Lines(own) {
		dir, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for dir = path.Clean("/" + dir); ; dir = path.Dir(dir) {
			// No such file: it is outside of what is mounted here, or sets no limit.
			text, _ := os.ReadFile(filepath.Join(root, dir, "memory.max"))
			if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil {
				most = min(most, n)
			}
			if dir == "/" {
				break
			}
		}
	}
	return most
}

// boundHeap keeps the garbage collector from letting the heap grow to twice the
// contents that are kept, which it would do because they are no garbage. What
// $GOMEMLIMIT says counts more.
func boundHeap(kept int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(kept + max(kept/4, 512<<20))
	}
}
