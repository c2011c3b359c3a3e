package main

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestDefaultMemory(t *testing.T) {
	for there, want := range map[uint64]int64{0: 64 << 20, 256 << 20: 64 << 20, 2 << 30: 256 << 20, 24 << 30: 3 << 30, math.MaxUint64: 4 << 30} {
		if got := defaultMemory(there); got != want {
			t.Errorf("of %d bytes %d are taken; want %d", there, got, want)
		}
	}
	o := rootOptions{}
	if n, err := o.keep(); err != nil || n < leastMemory || n > mostMemory {
		t.Errorf("without --roots-memory: %d, %v", n, err)
	}
	o.memory = "5M"
	if n, err := o.keep(); err != nil || n != 5<<20 {
		t.Errorf("with --roots-memory 5M: %d, %v", n, err)
	}
}

// The smallest limit of the control groups that the process is in counts.
func TestGroupMemory(t *testing.T) {
	root := t.TempDir()
	for dir, limit := range map[string]string{"a": "3000000000\n", "a/b": "max\n", "a/b/c": "4000000000\n", "d": "none\n"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, dir, "memory.max"), []byte(limit), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const none = math.MaxUint64
	for own, want := range map[string]uint64{
		"": none, "0::/\n": none, "0::/a/b/c\n": 3e9, "0::/a/b\n": 3e9, "0::/d\n": none, "0::/../..\n": none,
		"5:memory:/a\n0::/elsewhere\n": none, "5:memory:/x\n0::/a\n": 3e9,
	} {
		if got := groupMemory(root, own); got != want {
			t.Errorf("%q: %d; want %d", own, got, want)
		}
	}
}
