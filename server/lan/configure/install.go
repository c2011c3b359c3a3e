package configure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what other programs do.
const (
	checkTime  = time.Minute
	reloadTime = 2 * time.Minute
	maxOld     = 64 << 20
)

// ErrCheck is wrapped when the program whose configuration it is refuses it.
var ErrCheck = errors.New("refused by its own check")

// ErrReload is wrapped when the program could not take the new file; the old
// one is there again.
var ErrReload = errors.New("reload failed")

// Install is a file that takes another one's place.
type Install struct {
	File   string                          // symbolic links are followed
	Mode   os.FileMode                     // where there is no old file
	Check  func(file string) []string      // the command that checks a file; nil: none
	Reload func(ctx context.Context) error // nil: nothing is reloaded
}

// Result says what Run did.
type Result struct {
	File     string `json:"file"`
	Changed  bool   `json:"changed"`
	Backup   string `json:"backup,omitempty"` // the file as it was before
	Reloaded bool   `json:"reloaded"`
	Old      string `json:"-"` // contents before, "" if there was no file
}

// Prepare reads the old file and has the new contents checked beside it, and
// changes nothing.
func (i *Install) Prepare(ctx context.Context, text string) (*Result, error) {
	r, _, err := i.prepare(ctx, text, nil)
	return r, err
}

// Run puts the text into the file's place: written beside it and checked, the
// old one kept as FILE~, renamed, reloaded. A file that says the same already is
// left alone.
func (i *Install) Run(ctx context.Context, text string) (*Result, error) {
	r, _, err := i.prepare(ctx, text, func(r *Result, aside string, stat os.FileInfo) error { return i.replace(r, aside, stat) })
	if err != nil || !r.Changed || i.Reload == nil {
		return r, err
	}
	rctx, cancel := context.WithTimeout(ctx, reloadTime)
	defer cancel()
	if err := i.Reload(rctx); err != nil {
		if uerr := i.Undo(ctx, r); uerr != nil {
			return r, errors.Join(fmt.Errorf("%w: %w", ErrReload, err), uerr)
		}
		if r.Backup == "" {
			return r, fmt.Errorf("%w: %w\n%s, which was not there before, is taken away again", ErrReload, err, r.File)
		}
		return r, fmt.Errorf("%w: %w\nthe old %s is there again and loaded", ErrReload, err, r.File)
	}
	r.Reloaded = true
	return r, nil
}

func (i *Install) prepare(ctx context.Context, text string, use func(*Result, string, os.FileInfo) error) (r *Result, stat os.FileInfo, err error) {
	path, err := filepath.Abs(i.File)
	if err != nil {
		return nil, nil, err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	r = &Result{File: path}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, nil, fmt.Errorf("write %s: %w", path, err)
	}
	defer dir.Close() // after it is unlocked
	if use != nil {
		if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return nil, nil, fmt.Errorf("write %s: another process writes there: %w", path, err)
		}
		// Closing is not enough: a program that is being started may have the folder
		// open for a moment, too.
		defer func() { err = errors.Join(err, unix.Flock(int(dir.Fd()), unix.LOCK_UN)) }()
	}
	old, stat, err := readOld(path)
	if err != nil {
		return nil, nil, err
	}
	r.Old = string(old)
	r.Changed = stat == nil || r.Old != text
	aside, err := writeAside(dir, path, []byte(text), i.Mode, stat)
	if err != nil {
		return nil, nil, err
	}
	defer os.Remove(aside)
	if err := i.check(ctx, aside, path); err != nil {
		return r, stat, err
	}
	if use == nil || !r.Changed {
		return r, stat, nil
	}
	return r, stat, use(r, aside, stat)
}

func readOld(path string) ([]byte, os.FileInfo, error) {
	stat, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if !stat.Mode().IsRegular() || stat.Size() > maxOld {
		return nil, nil, fmt.Errorf("%s: no regular file of at most %d bytes", path, maxOld)
	}
	b, err := os.ReadFile(path)
	return b, stat, err
}

// writeAside writes a file in the same folder, so on the same file system and
// where the program may read, with mode and owner of the one that it is to replace.
func writeAside(dir *os.File, path string, text []byte, mode os.FileMode, like os.FileInfo) (name string, err error) {
	f, err := os.CreateTemp(dir.Name(), ".new-*."+filepath.Base(path))
	if err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
		}
	}()
	if like != nil {
		mode = like.Mode().Perm()
		if st, ok := like.Sys().(*syscall.Stat_t); ok && (int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid()) {
			err = f.Chown(int(st.Uid), int(st.Gid))
		}
	}
	if err == nil {
		_, err = f.Write(text)
	}
	return f.Name(), errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}

func (i *Install) check(ctx context.Context, aside, path string) error {
	if i.Check == nil {
		return nil
	}
	args := i.Check(aside)
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%s is not on this machine, so the file cannot be checked: install it, or write the file with --no-check: %w", args[0], err)
	}
	if err != nil {
		said := strings.TrimSpace(strings.ReplaceAll(string(out), aside, path))
		return fmt.Errorf("%w: %s: %w, nothing was changed:\n%s", ErrCheck, strings.Join(args[:len(args)-1], " "), err, lastLines(said, 30))
	}
	return nil
}

func lastLines(s string, n int) string {
	l := strings.Split(s, "\n")
	return strings.Join(l[max(0, len(l)-n):], "\n")
}

// replace keeps the old file as FILE~ and renames the new one over it.
func (i *Install) replace(r *Result, aside string, stat os.FileInfo) error {
	dir, err := os.Open(filepath.Dir(r.File))
	if err != nil {
		return err
	}
	defer dir.Close()
	if stat != nil {
		now, _, err := readOld(r.File)
		if err != nil || !bytes.Equal(now, []byte(r.Old)) {
			return fmt.Errorf("%s was changed by somebody else meanwhile and is left alone: %w", r.File, errors.Join(err, errors.New("do it again")))
		}
		copied, err := writeAside(dir, r.File+"~", now, 0, stat)
		if err != nil {
			return err
		}
		if err := os.Chtimes(copied, time.Time{}, stat.ModTime()); err != nil {
			return errors.Join(err, os.Remove(copied))
		}
		if err := os.Rename(copied, r.File+"~"); err != nil {
			return errors.Join(fmt.Errorf("keep the old file: %w", err), os.Remove(copied))
		}
		r.Backup = r.File + "~"
	}
	if err := os.Rename(aside, r.File); err != nil {
		return fmt.Errorf("replace %s: %w", r.File, err)
	}
	return dir.Sync()
}

// Undo puts the old file back that a Run replaced, or takes the new one away if
// there was none, and has the program read that.
func (i *Install) Undo(ctx context.Context, r *Result) error {
	if !r.Changed {
		return nil
	}
	dir, err := os.Open(filepath.Dir(r.File))
	if err != nil {
		return err
	}
	defer dir.Close()
	if r.Backup == "" {
		err = os.Remove(r.File)
	} else {
		var aside string
		var stat os.FileInfo
		if stat, err = os.Stat(r.File); err == nil {
			aside, err = writeAside(dir, r.File, []byte(r.Old), 0, stat)
		}
		if err == nil {
			err = os.Rename(aside, r.File)
		}
	}
	if err = errors.Join(err, dir.Sync()); err != nil {
		return fmt.Errorf("restore %s: %w", r.File, err)
	}
	r.Changed = false
	if i.Reload == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reloadTime)
	defer cancel()
	if err := i.Reload(ctx); err != nil {
		return fmt.Errorf("the old %s is there again, but it could not be reloaded either: %w", r.File, err)
	}
	return nil
}

// CheckCommand is how a format's own program checks a file.
func CheckCommand(f Format) func(file string) []string {
	return func(file string) []string {
		switch f {
		case ISC:
			return []string{"dhcpd", "-t", "-4", "-cf", file}
		case Dnsmasq:
			return []string{"dnsmasq", "--test", "-C", file}
		}
		return []string{"kea-dhcp4", "-t", file}
	}
}

// DefaultFile is where Debian has a format's file.
func DefaultFile(f Format) string {
	switch f {
	case ISC:
		return "/etc/dhcp/dhcpd.conf"
	case Dnsmasq:
		return "/etc/dnsmasq.d/inetboot.conf"
	}
	return "/etc/kea/kea-dhcp4.conf"
}

// Shell makes a reload out of a command line of sh.
func Shell(command string) func(context.Context) error {
	return func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, "sh", "-c", command)
		cmd.WaitDelay = 5 * time.Second
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, lastLines(strings.TrimSpace(string(out)), 10))
		}
		return nil
	}
}
