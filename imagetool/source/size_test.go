package source

import (
	"testing"
	"unsafe"
)

// What a push takes is mostly this, for each name: another size class of the
// allocator is 8 MB for half a million files.
func TestEntrySize(t *testing.T) {
	if n := unsafe.Sizeof(Entry{}); n > 144 {
		t.Errorf("an Entry has %d bytes; want at most 144", n)
	}
}
