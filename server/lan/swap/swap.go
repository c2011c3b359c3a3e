// Package swap keeps files that clients swap to over NBD, one for each MAC
// address. They are allocated in full when they are made, so that a machine
// whose server runs out of room later does not lose its memory.
package swap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrFull is wrapped when there is no room for another file, by the quota or
// on the disk.
var ErrFull = errors.New("no room for swap")

// Files are the files of all clients, in a folder. It is safe for concurrent
// use.
type Files struct {
	// Dir is made if it is not there.
	Dir string
	// Quota bounds the sum of all files, in bytes; 0: 64 GiB.
	Quota int64
	// Keep is for how long a file stays after its last use when its room is
	// wanted. A machine whose connection is gone may still come back to it;
	// 0: 24 hours.
	Keep time.Duration

	mu   sync.Mutex
	open map[string]int // connections, by the file's name
}

const suffix = ".swap"

// File is the swap of one client, for one connection. It is safe for
// concurrent use.
type File struct {
	f    *os.File
	size int64
	once sync.Once
	done func()
}

// Open returns the file of a client with size bytes. A file that is there
// keeps its length for as long as it is kept at all. Errors wrap ErrFull.
func (s *Files) Open(ctx context.Context, mac net.HardwareAddr, size int64) (*File, error) {
	if len(mac) == 0 || size < 4096 {
		return nil, fmt.Errorf("swap for %q: %d bytes, at least 4096 are needed", mac, size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("swap for %s: %w", mac, err)
	}
	name := strings.ReplaceAll(mac.String(), ":", "-") + suffix
	path := filepath.Join(s.Dir, name)
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = s.make(ctx, path, size)
	}
	if err != nil {
		return nil, fmt.Errorf("swap for %s: %w", mac, err)
	}
	st, err := f.Stat()
	if err == nil {
		err = os.Chtimes(path, time.Now(), time.Now())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("swap for %s: %w", mac, err), f.Close())
	}
	if s.open == nil {
		s.open = make(map[string]int)
	}
	s.open[name]++
	return &File{f: f, size: st.Size(), done: func() { s.closed(name, path) }}, nil
}

func (s *Files) closed(name, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[name]--; s.open[name] == 0 {
		delete(s.open, name)
		_ = os.Chtimes(path, time.Now(), time.Now()) // the use is over only now
	}
}

// make allocates a file, after removing what is kept for nobody if the quota
// wants that. The lock is held.
func (s *Files) make(ctx context.Context, path string, size int64) (*os.File, error) {
	if err := s.room(ctx, size); err != nil {
		return nil, err
	}
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = fmt.Errorf("%w on the disk of %s: %d bytes are needed: free some, or choose a smaller --swap-size", ErrFull, s.Dir, size)
	}
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(part))
	}
	return f, nil
}

// room sees that the quota has room for size bytes more.
func (s *Files) room(ctx context.Context, size int64) error {
	quota, keep := s.Quota, s.Keep
	if quota == 0 {
		quota = 64 << 30
	}
	if keep == 0 {
		keep = 24 * time.Hour
	}
	list, err := os.ReadDir(s.Dir)
	if err != nil {
		return err
	}
	sum := size
	var old []fs.FileInfo
	for _, e := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil || !fi.Mode().IsRegular() {
			continue
		}
		if !strings.HasSuffix(fi.Name(), suffix) { // left by a crash
			if strings.HasSuffix(fi.Name(), suffix+".part") {
				_ = os.Remove(filepath.Join(s.Dir, fi.Name()))
			}
			continue
		}
		sum += fi.Size()
		if s.open[fi.Name()] == 0 && time.Since(fi.ModTime()) > keep {
			old = append(old, fi)
		}
	}
	for _, fi := range old {
		if sum <= quota {
			break
		}
		if err := os.Remove(filepath.Join(s.Dir, fi.Name())); err != nil {
			return err
		}
		sum -= fi.Size()
	}
	if sum > quota {
		return fmt.Errorf("%w: all clients together may have %d bytes, and with %d more it would be %d: raise --swap-quota", ErrFull, quota, size, sum)
	}
	return nil
}

// Size returns the length in bytes.
func (f *File) Size() int64 { return f.size }

// ReadAt reads what was written.
func (f *File) ReadAt(_ context.Context, p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

// WriteAt writes inside of the file's length.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > f.size-int64(len(p)) {
		return 0, fmt.Errorf("write %d bytes at %d of swap: it has %d", len(p), off, f.size)
	}
	return f.f.WriteAt(p, off)
}

// Trim does nothing: what is allocated stays so.
func (f *File) Trim(int64, int64) error { return nil }

// Sync waits for the disk.
func (f *File) Sync() error { return f.f.Sync() }

// Close ends this use of the file.
func (f *File) Close() (err error) {
	f.once.Do(func() {
		err = f.f.Close()
		f.done()
	})
	return err
}
