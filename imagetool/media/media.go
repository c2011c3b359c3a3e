// Package media makes boot media personal: it writes the URLs of a store and
// its publisher's public keys into the slot that every medium has for them.
package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/inetboot/inetboot/internal/site"
)

// ErrSame is wrapped when a medium would be written over itself.
var ErrSame = errors.New("input and output are the same file")

// Personalise writes a copy of the medium at from to the file or device to, with
// archive in its site slot, and behind it, unless cache is 0, a partition for
// the cache of so many bytes (or Rest, on a device). A file appears under its
// name only when it is complete.
func Personalise(ctx context.Context, from, to string, archive []byte, cache int64) (err error) {
	if len(archive) != site.SlotSize {
		return fmt.Errorf("site archive of %d bytes, want %d", len(archive), site.SlotSize)
	}
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("open the medium: %w", err)
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return fmt.Errorf("open the medium: %w", err)
	}
	if old, err := os.Stat(to); err == nil && os.SameFile(fi, old) {
		return fmt.Errorf("%w: %s", ErrSame, to)
	}
	at, err := site.FindSlot(in, fi.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return replace(to, 0o644, func(out *os.File, device bool) error {
		if _, err := io.Copy(out, &contextReader{ctx, in}); err != nil {
			return err
		}
		if _, err := out.WriteAt(archive, at); err != nil || cache == 0 {
			return err
		}
		return addCache(out, fi.Size(), cache, device)
	})
}

// WriteArchive writes the bare archive, for use with a kernel and an
// initramfs: GRUB, pxelinux, iPXE and QEMU load it behind the initramfs.
func WriteArchive(to string, archive []byte) error {
	return replace(to, 0o644, func(out *os.File, _ bool) error {
		_, err := out.Write(archive)
		return err
	})
}

// replace writes a file under a temporary name and renames it. A device, such
// as a USB stick, is written directly.
func replace(name string, mode fs.FileMode, write func(out *os.File, device bool) error) (err error) {
	var out *os.File
	direct := false
	if fi, serr := os.Stat(name); serr == nil && !fi.Mode().IsRegular() {
		direct = true
		out, err = os.OpenFile(name, os.O_RDWR, 0)
	} else {
		out, err = os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if cerr := out.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("write %s: %w", name, cerr)
		}
		if direct {
			return
		}
		if err == nil {
			err = os.Rename(out.Name(), name)
		}
		if err != nil {
			_ = os.Remove(out.Name())
		}
	}()
	if err := write(out, direct); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if !direct {
		if err := out.Chmod(mode); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	if err := out.Sync(); err != nil && !errors.Is(err, fs.ErrInvalid) {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// contextReader ends with the context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
