// Package kernel finds the kernel of an operating system in its tree.
package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/imagetool/source"
)

// The reasons for which no kernel is found. Errors wrap them.
var (
	ErrNoKernel = errors.New("no kernel found")
	ErrArch     = errors.New("the kernel is for another architecture")
)

// maxConfig bounds a kernel's configuration file, in bytes.
const maxConfig = 4 << 20

// Kernel is a kernel and its modules.
type Kernel struct {
	Release string        // as uname -r
	Arch    string        // as GOARCH
	Image   *source.Entry // the file
	Modules *source.Entry // the folder of its modules
	Config  []byte        // /boot/config-RELEASE; nil if there is none
}

// Find returns the newest kernel of t that has modules, or the one with the
// given release. arch is the expected architecture, "" for any.
func Find(t *source.Tree, release, arch string) (*Kernel, error) {
	folders := moduleFolders(t)
	if len(folders) == 0 {
		return nil, fmt.Errorf("%w: the source has no modules in /lib/modules/RELEASE or /usr/lib/modules/RELEASE: install a kernel package in it", ErrNoKernel)
	}
	releases := slices.Collect(maps.Keys(folders))
	slices.SortFunc(releases, func(a, b string) int { return compareVersions(b, a) }) // newest first
	if release != "" {
		if !slices.Contains(releases, release) {
			return nil, fmt.Errorf("%w: no modules of %s; there are modules of %s", ErrNoKernel, release, strings.Join(releases, ", "))
		}
		releases = []string{release}
	}
	var looked []string
	for _, r := range releases {
		mods := folders[r]
		var candidates []*source.Entry
		for _, place := range places(mods.Path, r) {
			looked = append(looked, "/"+place)
			if e, err := t.Resolve(place); err == nil && e.IsRegular() {
				candidates = append(candidates, e)
			}
		}
		// Of a live system, kernels lie beside the root.
		beside := len(candidates)
		for n, e := range append(candidates, t.Origin.Kernels...) {
			got, err := inspect(t, e)
			if err != nil {
				return nil, err
			}
			if got.release != r && (got.release != "" || n >= beside) {
				continue // a link to another kernel, or one that belongs to nothing
			}
			if got.arch == "" {
				got.arch = arch
			}
			if got.arch == "" {
				return nil, fmt.Errorf("%w: /%s is of a kind that is not known: say with --arch what it is for", ErrArch, e.Path)
			}
			if arch != "" && arch != got.arch {
				return nil, fmt.Errorf("%w: /%s is for %s, not for %s", ErrArch, e.Path, got.arch, arch)
			}
			k := &Kernel{Release: r, Arch: got.arch, Image: e, Modules: mods}
			for _, c := range []string{"boot/config-" + r, mods.Path + "/config", mods.Path + "/build/.config"} {
				if data, err := t.ReadFile(c, maxConfig); err == nil {
					k.Config = data
					break
				}
			}
			return k, nil
		}
	}
	return nil, fmt.Errorf("%w: looked for %s", ErrNoKernel, strings.Join(looked, ", "))
}

// moduleFolders returns the folders of modules by release. They lie in
// /lib/modules, in /usr/lib/modules, or, where these are two, in either; a
// release may be a symbolic link.
func moduleFolders(t *source.Tree) map[string]*source.Entry {
	out := make(map[string]*source.Entry)
	for _, base := range []string{"usr/lib/modules", "lib/modules"} {
		dir, err := t.Resolve(base)
		if err != nil || !dir.IsDir() {
			continue
		}
		for _, c := range dir.Children() {
			e, err := t.Resolve(c.Path)
			if err == nil && e.IsDir() && hasModules(t, e) {
				out[c.Name()] = e
			}
		}
	}
	return out
}

// hasModules tells a folder of modules from what removing a kernel leaves: it
// has the index that depmod(8) writes, or modules and the list of those that
// are built in, which come with the kernel.
func hasModules(t *source.Tree, dir *source.Entry) bool {
	if t.Lookup(dir.Path+"/modules.dep") != nil {
		return true
	}
	k := t.Lookup(dir.Path + "/kernel")
	return k != nil && k.IsDir() && t.Lookup(dir.Path+"/modules.builtin") != nil
}

// places lists where distributions put the kernel of a release, whose modules
// are in the folder modules, best first.
func places(modules, release string) []string {
	return []string{
		"boot/vmlinuz-" + release,
		modules + "/vmlinuz",
		"boot/Image-" + release,
		"boot/kernel-" + release,
		"boot/vmlinux-" + release,
		modules + "/Image",
		"boot/vmlinuz-" + flavour(release),
		"vmlinuz",
		"boot/vmlinuz",
	}
}

// flavour returns the last part of a release: "lts" of "6.12.9-0-lts", as
// Alpine Linux calls its kernels.
func flavour(release string) string { return release[strings.LastIndexByte(release, '-')+1:] }

// Option tells whether the kernel's configuration says y or m to name, as
// "RD_ZSTD". known is false if there is no configuration.
func (k *Kernel) Option(name string) (value byte, known bool) {
	for line := range bytes.Lines(k.Config) {
		rest, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("CONFIG_"+name+"="))
		if ok && len(rest) == 1 {
			return rest[0], true
		}
	}
	return 0, k.Config != nil
}

// image is what a kernel file says about itself.
type image struct{ release, arch string }

// headLength is how much of a kernel is looked at: its version string lies
// within the first 64 KiB.
const headLength = 64<<10 + 256

func inspect(t *source.Tree, e *source.Entry) (image, error) {
	r, err := t.Open(e)
	if err != nil {
		return image{}, err
	}
	defer r.Close()
	head := make([]byte, min(headLength, e.Size))
	if _, err := io.ReadFull(r, head); err != nil {
		return image{}, source.ReadError(e, err)
	}
	return parseImage(head), nil
}

// parseImage reads the beginning of a kernel file. What it does not know it
// leaves empty.
func parseImage(b []byte) image {
	le := binary.LittleEndian
	switch {
	// Documentation/arch/x86/boot.rst
	case len(b) > 0x250 && string(b[0x202:0x206]) == "HdrS":
		im := image{arch: "386"}
		if le.Uint16(b[0x206:]) >= 0x20c && le.Uint16(b[0x236:])&1 != 0 {
			im.arch = "amd64"
		}
		if at := int(le.Uint16(b[0x20e:])) + 0x200; le.Uint16(b[0x20e:]) != 0 && at < len(b) {
			im.release, _, _ = strings.Cut(cString(b[at:min(at+128, len(b))]), " ")
		}
		return im
	// Documentation/arch/arm64/booting.rst
	case len(b) > 64 && string(b[56:60]) == "ARM\x64":
		return image{arch: "arm64"}
	// EFI images with a compressed kernel inside: the PE header says what for.
	case len(b) > 64 && string(b[:2]) == "MZ":
		if at := int(le.Uint32(b[60:])); at >= 0 && at+6 <= len(b) && string(b[at:at+4]) == "PE\x00\x00" {
			return image{arch: map[uint16]string{0x8664: "amd64", 0xaa64: "arm64", 0x14c: "386", 0x5064: "riscv64"}[le.Uint16(b[at+4:])]}
		}
	}
	return image{}
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// compareVersions orders releases as people do: runs of digits by value,
// "~" before everything, other characters by code.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		da, ra := digits(a)
		db, rb := digits(b)
		if da != "" && db != "" {
			ta, tb := strings.TrimLeft(da, "0"), strings.TrimLeft(db, "0")
			if len(ta) != len(tb) {
				return len(ta) - len(tb)
			}
			if c := strings.Compare(ta, tb); c != 0 {
				return c
			}
			a, b = ra, rb
			continue
		}
		ca, cb := rank(a), rank(b)
		if ca != cb {
			return ca - cb
		}
		a, b = a[1:], b[1:]
	}
	return 0
}

func digits(s string) (run, rest string) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}

func rank(s string) int {
	switch {
	case s == "":
		return 0
	case s[0] == '~':
		return -1
	}
	return int(s[0]) + 1
}
