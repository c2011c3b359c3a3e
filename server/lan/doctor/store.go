package doctor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// get reads a URL into w, at most limit bytes of it.
func get(ctx context.Context, wait time.Duration, url string, limit int64, w io.Writer) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, fileTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	// Firmware asks no proxy.
	c := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: wait}).DialContext, ResponseHeaderTimeout: wait, DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return 0, fmt.Errorf("%s: %w", resp.Status, fs.ErrNotExist)
	}
	if resp.StatusCode != http.StatusOK {
		return 0, errors.New(resp.Status)
	}
	n, err := io.Copy(w, io.LimitReader(resp.Body, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return n, err
}

// http fetches the boot files that have URLs.
func (d *doctor) http(ctx context.Context) {
	n := 0
	for _, b := range d.boots {
		if b.from.IsValid() {
			continue
		}
		n++
		f := Finding{StageHTTP, b.kind, OK, "GET " + b.file, "", ""}
		var head prefix
		size, err := get(ctx, d.o.Wait, b.file, maxBootFile, &head)
		f.Got = fmt.Sprintf("%d bytes", size)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			f.Status, f.Got, f.Next = Failed, err.Error(), "the server does not have that file: look at --media and at who named it; before a publisher has made a catalog there is none (imagetool init)"
		case err != nil:
			f.Status = Failed
			f.Got, f.Next = d.why(err, "tcp", port(b.file), "HTTP", "--listen")
		case b.kind == "ipxe" && !bytes.HasPrefix(head.b, []byte("#!ipxe")):
			f.Status, f.Next = Failed, "that is no script of iPXE: it does not begin with #!ipxe"
		default:
			f.Status, f.Next = program(b.kind, head.b)
		}
		d.add(f)
	}
	if n == 0 {
		d.add(Finding{StageHTTP, "all", Skipped, "", "DHCP named no boot file with a URL", ""})
	}
}

// prefix keeps the first bytes of what is written to it.
type prefix struct{ b []byte }

func (p *prefix) Write(b []byte) (int, error) {
	if room := 512 - len(p.b); room > 0 {
		p.b = append(p.b, b[:min(room, len(b))]...)
	}
	return len(b), nil
}

func port(url string) int {
	n := 80
	if strings.HasPrefix(url, "https:") {
		n = 443
	}
	if _, rest, ok := strings.Cut(url, "://"); ok {
		rest, _, _ = strings.Cut(rest, "/")
		if _, p, ok := strings.Cut(rest, ":"); ok {
			_, _ = fmt.Sscanf(p, "%d", &n)
		}
	}
	return n
}

// remote reads a store over HTTP.
type remote struct {
	url  string
	wait time.Duration
}

var _ tuf.Source = remote{}

// Read implements tuf.Source.
func (r remote) Read(ctx context.Context, path string, buf []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	b := bytes.NewBuffer(buf[:0])
	if _, err := get(ctx, r.wait, r.url+"/"+path, limit, b); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b.Bytes(), accept(b.Bytes())
}

// kernel verifies the catalog, from the root that the server has, and the kernel
// and initrd of the newest image, and has its root checked.
func (d *doctor) kernel(ctx context.Context) {
	f := Finding{StageKernel, "catalog", OK, "GET " + d.o.URL + "/catalog/…", "", ""}
	img, err := d.catalog(ctx, &f)
	if err != nil {
		f.Status = Failed
		switch {
		case errors.Is(err, fs.ErrNotExist):
			f.Got, f.Next = err.Error(), "no publisher has made a catalog here, or it is not whole: imagetool init, imagetool push; the server verifies what is there at its start"
		case f.Next == "":
			f.Got, f.Next = d.why(err, "tcp", port(d.o.URL), "HTTP", "--listen")
		default:
			f.Got = err.Error()
		}
	}
	d.add(f)
	if img == nil {
		d.add(Finding{StageRoot, "all", Skipped, "", "no image to read", ""})
		return
	}
	m := img.Manifest()
	for _, part := range []struct {
		what string
		blob digest.Blob
	}{{"kernel", m.Kernel.Blob}, {"initrd", m.Initrd}} {
		if part.blob.Size == 0 {
			continue
		}
		f := Finding{StageKernel, part.what, OK, "GET " + d.o.URL + "/" + storepath.File(part.blob.SHA256), "", ""}
		h := sha256.New()
		n, err := get(ctx, d.o.Wait, d.o.URL+"/"+storepath.File(part.blob.SHA256), part.blob.Size, h)
		f.Got = fmt.Sprintf("%d bytes, as signed, of %s %s", n, m.Name, m.Version)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			f.Status, f.Got, f.Next = Failed, err.Error(), "the store lacks a file that the catalog lists: push the image again"
		case err != nil:
			f.Status = Failed
			f.Got, f.Next = d.why(err, "tcp", port(d.o.URL), "HTTP", "--listen")
		case n != part.blob.Size || digest.SHA256(h.Sum(nil)) != part.blob.SHA256:
			f.Status, f.Got, f.Next = Failed, fmt.Sprintf("%d bytes that are not those that are signed", n), "the file in the store is damaged: remove it and push the image again"
		}
		d.add(f)
	}
	d.roots(ctx, &m)
}

// catalog returns the newest image.
func (d *doctor) catalog(ctx context.Context, f *Finding) (*catalog.Image, error) {
	src := remote{d.o.URL, d.o.Wait}
	first, err := src.Read(ctx, storepath.RoleMetadata(tuf.RoleRoot, 1), nil, tuf.MaxRoot, func([]byte) error { return nil })
	if err != nil {
		return nil, err
	}
	anchor, err := tuf.NewAnchor(first)
	if err != nil {
		f.Next = "the first root of the catalog does not hold: take it from a copy"
		return nil, err
	}
	c, err := catalog.Open(ctx, src, anchor, catalog.Options{})
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			f.Next = "machines refuse that catalog: if it has expired, the server has to run to sign it; look at the clock; else a publisher signs it anew (imagetool push)"
		}
		return nil, err
	}
	names, err := c.Names(ctx)
	if err != nil {
		return nil, err
	}
	var newest *catalog.Image
	n := 0
	for _, name := range names {
		if !strings.HasPrefix(name, "images/") {
			continue
		}
		img, err := c.Image(ctx, name)
		if err != nil {
			f.Next = "the manifest " + name + " does not hold: push that image again"
			return nil, err
		}
		n++
		if newest == nil || img.Manifest().Created.After(newest.Manifest().Created) {
			newest = img
		}
	}
	f.Got = fmt.Sprintf("version %d, verified from its own first root, until %s, with %d images", c.Version(), c.Expires().UTC().Format(time.DateTime), n)
	if newest == nil {
		f.Status, f.Next = Warning, "there is nothing to boot: imagetool push"
	}
	return newest, nil
}
