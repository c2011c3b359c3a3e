package download

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// File is a file in memory, without a name.
type File struct {
	f *os.File

	mapped [][]byte

	mu   sync.Mutex
	size int64
}

// newFile makes an empty one.
func newFile(name string) (*File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make room for the %s: %w", name, err)
	}
	return &File{f: os.NewFile(uintptr(fd), name)}, nil
}

// WriteAt implements io.WriterAt.
func (f *File) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(b, off)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.size = max(f.size, off+int64(n))
	return n, err
}

var _ io.WriterAt = (*File)(nil)

// Append adds b behind the end, at a multiple of four bytes: where the kernel
// looks for the next archive of an initramfs.
func (f *File) Append(b []byte) error {
	size := f.Size()
	at := aligned(size)
	if _, err := f.WriteAt(make([]byte, at-size), size); err != nil {
		return fmt.Errorf("append to the %s: %w", f.f.Name(), err)
	}
	if _, err := f.WriteAt(b, at); err != nil {
		return fmt.Errorf("append to the %s: %w", f.f.Name(), err)
	}
	return nil
}

// Size returns the length in bytes.
func (f *File) Size() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}

// aligned returns where an archive can follow n bytes of others.
func aligned(n int64) int64 { return (n + 3) &^ 3 }

// ReadOnly returns the file opened for reading and ends all writing. The
// kernel refuses to load from a file that is open for writing.
func (f *File) ReadOnly() (*os.File, error) {
	r, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("open the %s again: %w", f.f.Name(), err)
	}
	return r, errors.Join(f.Close())
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(b []byte, off int64) (int, error) { return f.f.ReadAt(b, off) }

// Map returns the contents, which are not to be written to, until Close.
func (f *File) Map() ([]byte, error) {
	b, err := unix.Mmap(int(f.f.Fd()), 0, int(f.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the %s: %w", f.f.Name(), err)
	}
	f.mapped = append(f.mapped, b)
	return b, nil
}

// Close gives the memory back, unless ReadOnly's file still holds it.
func (f *File) Close() error {
	var err error
	for _, b := range f.mapped {
		err = errors.Join(err, unix.Munmap(b))
	}
	f.mapped = nil
	return errors.Join(err, f.f.Close())
}
