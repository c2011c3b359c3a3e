package target

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/blockfs/inroot"
)

// maxHeld bounds what holdInit brings into memory, in bytes.
const maxHeld = 32 << 20

// holdInit brings the image's init, and the libraries that it is linked with,
// into memory: into the overlay, as they are. The simpler ones go down with a
// signal to all processes, `kill -KILL -1`, which nothing can be kept out of;
// the daemon ends with it, and from then on nothing of the root can be read
// that is not in memory. All that such an init does afterwards it does itself.
//
// systemd does without: it leaves the root before, see shutdown.go.
func (b *booter) holdInit(root, initPath string) {
	real, err := inroot.Resolve(root, initPath)
	if err != nil || filepath.Base(real) == "systemd" {
		return
	}
	files, err := programFiles(root, real)
	if err != nil {
		b.log.Debug("libraries of init", "error", err) // a script, perhaps
	}
	var held int64
	for _, f := range files {
		name := filepath.Join(root, f)
		st, err := os.Stat(name)
		if err != nil || !st.Mode().IsRegular() || held+st.Size() > maxHeld {
			continue
		}
		// The overlay copies a file when it is opened for writing.
		w, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			b.log.Warn("init may need the store to go down", "file", f, "error", err)
			continue
		}
		w.Close()
		held += st.Size()
	}
}

// libraryFolders are where dynamic linkers look by themselves.
var libraryFolders = []string{"/lib", "/usr/lib", "/lib64", "/usr/lib64"}

// programFiles returns the paths of a program, its dynamic linker and the
// libraries that it needs, as far as they are found.
func programFiles(root, program string) ([]string, error) {
	files := []string{program}
	var errs []error
	var folders []string
	for i := 0; i < len(files) && len(files) < 64; i++ {
		needs, interpreter, err := linkedWith(filepath.Join(root, files[i]))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if interpreter != "" {
			needs = append(needs, interpreter)
		}
		if folders == nil {
			folders = slices.Concat(libraryFolders, multiarch(root))
		}
		for _, n := range needs {
			candidates := []string{n}
			if !strings.HasPrefix(n, "/") {
				candidates = nil
				for _, d := range folders {
					candidates = append(candidates, filepath.Join(d, n))
				}
			}
			for _, c := range candidates {
				real, err := inroot.Resolve(root, c)
				if err == nil {
					if !slices.Contains(files, real) {
						files = append(files, real)
					}
					break
				}
			}
		}
	}
	return files, errors.Join(errs...)
}

// multiarch returns Debian's folders of libraries, such as
// /lib/x86_64-linux-gnu.
func multiarch(root string) []string {
	var out []string
	for _, dir := range []string{"/lib", "/usr/lib"} {
		real, err := inroot.Resolve(root, dir)
		if err != nil {
			continue
		}
		found, err := filepath.Glob(filepath.Join(root, real, "*-linux-*"))
		if err != nil {
			continue
		}
		for _, f := range found {
			out = append(out, strings.TrimPrefix(f, filepath.Clean(root)))
		}
	}
	return out
}

// linkedWith returns the names of the libraries that an ELF file needs, and
// the path of its dynamic linker, "" if it has none.
func linkedWith(file string) (needs []string, interpreter string, err error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz > 1 && p.Filesz < 4096 {
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err != nil {
				return nil, "", fmt.Errorf("%s: %w", file, err)
			}
			interpreter = strings.TrimRight(string(b), "\x00")
		}
	}
	needs, err = f.ImportedLibraries()
	if err != nil { // a static program has no dynamic section
		return nil, interpreter, nil
	}
	return needs, interpreter, nil
}
