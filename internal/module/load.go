package module

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// maxModule bounds the length of a module, in bytes.
const maxModule = 128 << 20

// Loader loads modules of the running kernel. It is safe for concurrent use.
type Loader struct {
	Dir  string // such as /lib/modules/6.1.0-13-amd64
	Tree *Tree

	mu   sync.Mutex
	done map[string]error
}

// NewLoader returns a Loader for the modules of the running kernel below
// root/lib/modules or root/usr/lib/modules. A kernel without any has one that
// loads nothing.
func NewLoader(root string) (*Loader, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("ask for the kernel's release: %w", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	l := &Loader{Tree: &Tree{}, done: map[string]error{}}
	for _, lib := range []string{"lib/modules", "usr/lib/modules"} {
		dir := filepath.Join(root, lib, release)
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		t, err := Open(os.DirFS(dir))
		if err != nil {
			return nil, err
		}
		l.Dir, l.Tree = dir, t
		break
	}
	return l, nil
}

// Load loads a module and what it needs. Those that are loaded already, or
// built in, are no error. Errors wrap ErrNotFound or what the kernel said.
func (l *Loader) Load(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	name = Name(name)
	if err, ok := l.done[name]; ok {
		return err
	}
	order, err := l.Tree.Order(name)
	if err != nil {
		l.done[name] = err
		return err
	}
	for _, n := range order {
		if _, ok := l.done[n]; ok {
			continue
		}
		l.done[n] = l.insert(n)
		// What the module itself or a hard dependency lacks shows in the end.
		err = l.done[n]
	}
	l.done[name] = err
	return err
}

func (l *Loader) insert(name string) error {
	file := filepath.Join(l.Dir, filepath.FromSlash(l.Tree.files[name]))
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("load kernel module %s: %w", name, err)
	}
	defer f.Close()
	packed := !strings.HasSuffix(file, ".ko")
	flags := 0
	if packed {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	err = unix.FinitModule(int(f.Fd()), "", flags)
	if packed && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOEXEC)) {
		// The kernel does not know this compression, or none.
		var plain []byte
		if plain, err = Unpack(file, f); err != nil {
			return fmt.Errorf("load kernel module %s: %w", name, err)
		}
		err = unix.InitModule(plain, "")
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load kernel module %s: %w", name, err)
	}
	return nil
}

// Unpack returns the content of a module file, decompressed as its name says.
func Unpack(name string, r io.Reader) ([]byte, error) {
	in := r
	switch filepath.Ext(name) {
	case ".ko":
	case ".gz":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		in = z
	case ".xz":
		z, err := xz.NewReader(r)
		if err != nil {
			return nil, err
		}
		in = z
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxModule))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		in = z
	default:
		return nil, fmt.Errorf("%s: unknown compression", filepath.Base(name))
	}
	var b bytes.Buffer
	if n, err := b.ReadFrom(io.LimitReader(in, maxModule+1)); err != nil {
		return nil, err
	} else if n > maxModule {
		return nil, fmt.Errorf("%s: longer than %d bytes", filepath.Base(name), maxModule)
	}
	return b.Bytes(), nil
}
