package push

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/inetboot/inetboot/blockfs/cut"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/imagetool/source"
)

// wholeName is what a root of one file calls it.
const wholeName = "image"

// checkWhole returns an error if the source has no filesystem that can be
// pushed as it is.
func checkWhole(t *source.Tree, o Options) error {
	if len(o.Reading.Overlays) > 0 || len(o.Reading.Exclude) > 0 {
		return fmt.Errorf("%w: --overlay and --exclude change what is in an image, --as-is leaves it: choose", source.ErrUnreadable)
	}
	if t.Origin.Whole != nil {
		return nil
	}
	kind := t.Origin.Kind
	if kind == "" {
		kind = "a directory or an archive"
	}
	return fmt.Errorf("%w: --as-is is for images with one filesystem that has the root, this is %s: push it without", source.ErrUnreadable, kind)
}

// whole writes the filesystem that the root was read from as blocks. One
// that is compressed inside is cut at any byte; in others files begin at
// pages.
func (b *built) whole(ctx context.Context, w *source.Whole, up *uploader, rep Reporter) error {
	rep.Begin("push", w.Size)
	r := io.NewSectionReader(w, 0, w.Size)
	c, cutting := cut.Pages(r), index.CutPages
	if w.Type == "squashfs" {
		c, cutting = cut.Bytes(r), index.CutBytes
	}
	f, err := up.file(ctx, wholeName, c, cutting)
	if err != nil {
		return err
	}
	b.files = append(b.files, f)
	return nil
}

// rootType returns the type of the root, as in mount(2).
func rootType(t *source.Tree, asIs bool) string {
	if asIs {
		return t.Origin.Whole.Type
	}
	return "erofs"
}

// cmdline returns the kernel's command line: what the system in the image
// looks for, and what the publisher says.
func cmdline(t *source.Tree, o Options) string {
	var parts []string
	if o.AsIs && namesDisks(t) {
		// systemd-fstab-generator(8): nothing waits for the disk that this was.
		parts = append(parts, "fstab=no")
	}
	for _, p := range []string{t.Origin.Cmdline, o.Cmdline} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, " ")
}

// maxFstab bounds fstab(5), in bytes.
const maxFstab = 1 << 20

// namesDisks tells whether fstab has something that is mounted from a disk.
// In a tree that was taken apart the reader of disks has seen to that.
func namesDisks(t *source.Tree) bool {
	text, err := t.ReadFile("etc/fstab", maxFstab)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) >= 3 && !strings.HasPrefix(f[0], "#") && (strings.Contains(f[0], "=") || strings.HasPrefix(f[0], "/dev/")) {
			return true
		}
	}
	// The reader has made comments of them.
	return strings.Contains(string(text), source.FstabComment)
}
