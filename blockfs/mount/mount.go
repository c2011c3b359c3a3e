// Package mount shows files of verified blocks as one read-only directory, by
// FUSE.
//
// # Deadlocks
//
// A process that serves a filesystem must never wait for that filesystem: not
// open, stat or run anything below the mount point, nor on a filesystem whose
// own blocks come through it, such as the root of the machine that it serves.
// That includes what libraries read on their own: time zones, resolver
// configuration, certificates. Memory that has been paged out to it is the same
// trap, so the daemon of a root locks its memory.
//
// A process that waits for a block cannot be killed while the kernel waits for
// the answer. Writing to /sys/fs/fuse/connections/N/abort, see [Mount.Abort],
// ends all such waits with an error.
package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/read"
)

// File is a file and its name in the directory.
type File struct {
	Name string
	File *read.File
}

// Options is how to mount. The zero value is usable.
type Options struct {
	// Interruptible lets a signal to a waiting process end its read with
	// EINTR. Not for a root filesystem: page faults would end in SIGBUS.
	Interruptible bool

	AllowOther bool         // other users may read, too
	ReadAhead  int          // kernel read-ahead in KiB, set if the process is root; 0: 4096
	Logger     *slog.Logger // nil: silent
}

// MaxRead is the longest read that the kernel asks for, in bytes.
const MaxRead = 1 << 20

// Mount is a mounted directory.
type Mount struct {
	dir    string
	dev    uint64
	direct bool
	srv    *fuse.Server
	done   chan struct{}
}

// New mounts files at dir. As root the kernel is asked directly, otherwise
// through fusermount3.
func New(dir string, files []File, o Options) (*Mount, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ReadAhead <= 0 {
		o.ReadAhead = 4096
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		if f.Name == "" || f.Name == "." || f.Name == ".." || filepath.Base(f.Name) != f.Name || seen[f.Name] {
			return nil, fmt.Errorf("mount %s: file name %q is not usable, or stands twice", dir, f.Name)
		}
		seen[f.Name] = true
	}
	direct := os.Geteuid() == 0
	fs := &filesystem{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		files:         slices.Clone(files),
		uid:           uint32(os.Getuid()),
		gid:           uint32(os.Getgid()),
		interruptible: o.Interruptible,
		failed: func(name string, err error) {
			o.Logger.Error("read fails", "file", name, "error", err)
		},
	}
	mo := &fuse.MountOptions{
		FsName:            "blockfs",
		Name:              "blockfs",
		MaxWrite:          MaxRead,
		MaxReadAhead:      MaxRead,
		MaxBackground:     64,
		AllowOther:        o.AllowOther,
		DisableXAttrs:     true,
		DirectMountStrict: direct,
		DirectMountFlags:  unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME,
		Logger:            log.New(io.Discard, "", 0),
	}
	if !direct {
		mo.Options = []string{"ro", "nosuid", "nodev", "noatime"}
	}
	srv, err := fuse.NewServer(fs, dir, mo)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w; is there a /dev/fuse, and the kernel module fuse?", dir, err)
	}
	m := &Mount{dir: dir, direct: direct, srv: srv, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		srv.Serve()
	}()
	if err := srv.WaitMount(); err != nil {
		return nil, errors.Join(fmt.Errorf("mount %s: %w", dir, err), m.detach())
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, errors.Join(fmt.Errorf("mount %s: %w", dir, err), m.detach())
	}
	m.dev = st.Dev
	if direct {
		name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(m.dev), unix.Minor(m.dev))
		if err := os.WriteFile(name, fmt.Appendln(nil, o.ReadAhead), 0); err != nil {
			o.Logger.Debug("read-ahead stays as the kernel has it", "error", err)
		}
	}
	return m, nil
}

// Dir returns the absolute path of the mount point.
func (m *Mount) Dir() string { return m.dir }

// Done is closed when the filesystem is unmounted and all requests are answered.
func (m *Mount) Done() <-chan struct{} { return m.done }

// Unmount unmounts, and waits until everything is over. While files are open
// it tries again until ctx ends; then the directory disappears at once, what is
// open goes on working, and the error wraps ErrBusy. It is safe to call again.
func (m *Mount) Unmount(ctx context.Context) error {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		err := m.umount(false)
		if err == nil || m.over() {
			break
		}
		t := time.NewTimer(pause)
		select {
		case <-m.done:
			t.Stop()
			return nil
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			if derr := m.detach(); derr != nil {
				return fmt.Errorf("unmount %s: %w: %w", m.dir, ErrBusy, errors.Join(err, derr))
			}
			select {
			case <-m.done:
				return nil
			case <-time.After(50 * time.Millisecond):
			}
			return fmt.Errorf("unmount %s: %w", m.dir, ErrBusy)
		}
	}
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("unmount %s: %w", m.dir, context.Cause(ctx))
	}
}

// ErrBusy is wrapped when files are still open.
var ErrBusy = errors.New("files are still in use")

func (m *Mount) over() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

func (m *Mount) detach() error { return m.umount(true) }

func (m *Mount) umount(lazy bool) error {
	if m.direct {
		flags := unix.UMOUNT_NOFOLLOW
		if lazy {
			flags |= unix.MNT_DETACH
		}
		return unix.Unmount(m.dir, flags)
	}
	args := []string{"-u", m.dir}
	if lazy {
		args = []string{"-u", "-z", m.dir}
	}
	for _, name := range []string{"fusermount3", "fusermount"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, out)
		}
		return nil
	}
	return errors.New("neither fusermount3 nor fusermount is installed")
}

// Abort ends the connection to the kernel: all reads under way and to come
// fail. It needs root.
func (m *Mount) Abort() error {
	name := fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", unix.Minor(m.dev))
	if err := os.WriteFile(name, []byte("1"), 0); err != nil {
		return fmt.Errorf("abort %s: %w", m.dir, err)
	}
	return nil
}
