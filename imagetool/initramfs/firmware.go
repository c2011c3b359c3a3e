package initramfs

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/imagetool/source"
)

// maxFirmware bounds one firmware file, in bytes, also when it is unpacked.
const maxFirmware = 64 << 20

// firmwareSuffixes are the ways in which a file may be compressed. The kernel
// unpacks .zst and .xz itself where it has been built so; here they are
// unpacked in any case.
var firmwareSuffixes = []string{"", ".zst", ".xz", ".gz"}

// firmwareFolders are where a kernel looks for firmware, in its order
// (drivers/base/firmware_loader/main.c).
func firmwareFolders(release string) []string {
	const lib = "lib/firmware"
	return []string{lib + "/updates/" + release, lib + "/updates", lib + "/" + release, lib}
}

// writeFirmware adds the firmware that the source has of the names that
// modules ask for, and that network drivers which are built in do. Names may
// be patterns.
func (b *builder) writeFirmware(want []string) error {
	for driver, names := range builtinFirmware(b.idx.builtinInfo) {
		if b.mods.builtinUnder(driver, networkFolders...) {
			want = append(want, names...)
		}
	}
	slices.Sort(want)
	for _, n := range slices.Compact(want) {
		if n == "" || n != strings.TrimPrefix(path.Clean("/"+n), "/") {
			continue
		}
		names := []string{n}
		if strings.ContainsAny(n, "*?[") {
			names = b.matchFirmware(n)
		}
		for _, n := range names {
			if err := b.addFirmware(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// addFirmware adds the firmware of one name, if the source has it.
func (b *builder) addFirmware(name string) error {
	if b.have["lib/firmware/"+name] {
		return nil
	}
	e := b.findFirmware(name)
	if e == nil {
		return nil
	}
	data, err := b.tree.ReadEntry(e, maxFirmware)
	if err != nil {
		return fmt.Errorf("firmware %s: %w", name, err)
	}
	if path.Ext(e.Path) != path.Ext(name) {
		if data, err = decompress(data, maxFirmware); err != nil {
			return fmt.Errorf("firmware %s: %w", name, err)
		}
	}
	b.have["lib/firmware/"+name] = true
	b.res.Firmware++
	return b.file("lib/firmware/"+name, data, 0o644)
}

// findFirmware returns the file that holds a firmware, or nil. Where /lib is
// not /usr/lib, either may have it.
func (b *builder) findFirmware(name string) *source.Entry {
	for _, dir := range firmwareFolders(b.kernel.Release) {
		for _, root := range []string{"", "usr/"} {
			for _, suffix := range firmwareSuffixes {
				if e, err := b.tree.Resolve(root + dir + "/" + name + suffix); err == nil && e.IsRegular() {
					return e
				}
			}
		}
	}
	return nil
}

// matchFirmware returns the names of firmware that a pattern matches.
func (b *builder) matchFirmware(pattern string) []string {
	var out []string
	for _, dir := range firmwareFolders(b.kernel.Release) {
		for _, root := range []string{"", "usr/"} {
			d, err := b.tree.Resolve(root + dir)
			if err != nil || !d.IsDir() {
				continue
			}
			var walk func(e *source.Entry)
			walk = func(e *source.Entry) {
				for _, c := range e.Children() {
					name := strings.TrimPrefix(c.Path, d.Path+"/")
					if c.IsDir() {
						walk(c)
						continue
					}
					for _, s := range firmwareSuffixes {
						if n, ok := strings.CutSuffix(name, s); ok && s != "" {
							name = n
							break
						}
					}
					if ok, err := path.Match(pattern, name); err == nil && ok {
						out = append(out, name)
					}
				}
			}
			walk(d)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
