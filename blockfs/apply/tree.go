package apply

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/inroot"
)

// maxRead bounds what is read of a file that is changed, in bytes.
const maxRead = 4 << 20

// tree is a system in a folder. Paths are those of the system.
type tree struct{ root string }

// attributes are those of a file.
type attributes struct {
	mode     uint32 // permission bits, as in stat(2)
	uid, gid int
}

func (t tree) has(name string) bool {
	_, err := inroot.Resolve(t.root, name)
	return err == nil
}

// real returns where a file is, or would be.
func (t tree) real(name string) (string, error) {
	p, err := inroot.Create(t.root, name)
	if err != nil {
		return "", err
	}
	return filepath.Join(t.root, p), nil
}

// read returns the content of a regular file.
func (t tree) read(name string) (string, error) {
	p, err := t.real(name)
	if err != nil {
		return "", err
	}
	// Not to wait for whoever opens the other side of a FIFO.
	f, err := os.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return "", errors.Join(fmt.Errorf("%s is no regular file", name), err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRead+1))
	if err == nil && len(b) > maxRead {
		err = fmt.Errorf("%s has more than %d bytes", name, maxRead)
	}
	return string(b), err
}

// attributesOf returns the attributes of a file, or those of a new one.
func (t tree) attributesOf(name string) (attributes, error) {
	p, err := t.real(name)
	if err != nil {
		return attributes{}, err
	}
	var st unix.Stat_t
	switch err := unix.Lstat(p, &st); {
	case errors.Is(err, unix.ENOENT):
		return attributes{mode: 0o644}, nil
	case err != nil:
		return attributes{}, &os.PathError{Op: "stat", Path: name, Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return attributes{}, fmt.Errorf("%s is there and is no regular file", name)
	}
	return attributes{mode: st.Mode & 0o7777, uid: int(st.Uid), gid: int(st.Gid)}, nil
}

// write replaces the content of a file. A new one belongs to root.
func (t tree) write(name string, data []byte) error {
	a, err := t.attributesOf(name)
	if err != nil {
		return err
	}
	return t.writeAs(name, data, a)
}

// writeAs writes a file with the given attributes, and the folders that it
// lacks.
func (t tree) writeAs(name string, data []byte, a attributes) error {
	p, err := t.real(name)
	if err != nil {
		return err
	}
	if _, err := t.attributesOf(name); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(p, data, 0o600); err != nil {
		return err
	}
	// Changing the owner takes the set-user-ID bit away.
	if err := os.Chown(p, a.uid, a.gid); err != nil {
		return err
	}
	return unix.Chmod(p, a.mode)
}

// mkdir makes a folder unless it is there.
func (t tree) mkdir(name string, mode uint32, uid, gid int) error {
	p, err := t.real(name)
	if err != nil {
		return err
	}
	if st, err := os.Stat(p); err == nil && st.IsDir() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(p, 0o700); err != nil {
		return err
	}
	if err := os.Chown(p, uid, gid); err != nil {
		return err
	}
	return unix.Chmod(p, mode)
}

// link returns where the last part of a path lies, which is not followed.
func (t tree) link(name string) (string, error) {
	dir, err := t.real(filepath.Dir(name))
	return filepath.Join(dir, filepath.Base(name)), err
}

// symlink replaces whatever file is there by a symbolic link.
func (t tree) symlink(to, name string) error {
	p, err := t.link(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(to, p)
}

// remove removes a file or link. That there is none is no error.
func (t tree) remove(name string) error {
	p, err := t.link(name)
	if err != nil {
		return err
	}
	if st, err := os.Lstat(p); err == nil && st.IsDir() {
		return fmt.Errorf("%s is a folder", name)
	}
	if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// plain and quoted are ways to write a variable's value.
func plain(v string) string {
	if strings.ContainsAny(v, " \t#;'") && !strings.ContainsAny(v, `"`) {
		return `"` + v + `"`
	}
	return v
}

func quoted(v string) string { return `"` + v + `"` }

// setVariables sets variables in a file of lines NAME=value.
func (t tree) setVariables(name string, values map[string]string, write func(string) string) error {
	old, err := t.read(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(old) {
		key, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if _, set := values[strings.TrimSpace(key)]; !set {
			out.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		out.WriteString(key + "=" + write(values[key]) + "\n")
	}
	return t.write(name, []byte(out.String()))
}

// account is a line of passwd(5).
type account struct {
	uid, gid int
	home     string
}

// user finds an account by name or number. A number need not have one.
func (t tree) user(name string) (account, error) {
	list, err := t.read("/etc/passwd")
	if err == nil {
		for line := range strings.Lines(list) {
			f := strings.Split(strings.TrimRight(line, "\n"), ":")
			if len(f) < 6 || f[0] != name && f[2] != name {
				continue
			}
			uid, err1 := number(f[2])
			gid, err2 := number(f[3])
			if err1 == nil && err2 == nil {
				return account{uid, gid, f[5]}, nil
			}
		}
	}
	if uid, nerr := number(name); nerr == nil {
		return account{uid: uid, gid: uid}, nil
	}
	return account{}, errors.Join(fmt.Errorf("the image has no user %s", name), err)
}

// group finds the number of a group.
func (t tree) group(name string) (int, error) {
	list, err := t.read("/etc/group")
	if err == nil {
		for line := range strings.Lines(list) {
			if f := strings.Split(strings.TrimRight(line, "\n"), ":"); len(f) > 2 && f[0] == name {
				if gid, err := number(f[2]); err == nil {
					return gid, nil
				}
			}
		}
	}
	if gid, nerr := number(name); nerr == nil {
		return gid, nil
	}
	return 0, errors.Join(fmt.Errorf("the image has no group %s", name), err)
}

// number reads a user's or group's number.
func number(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err
}
