// Package imageurl reads the URLs by which images are started that are in no
// catalog's menu.
package imageurl

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/storepath"
)

// Option is the option of the kernel command line that has such a URL.
const Option = "httpfuse"

// ErrInvalid is wrapped by every error about a URL.
var ErrInvalid = errors.New("no URL of an image")

// URL names the manifest of an image:
//
//	BASE/catalog/targets/images/NAME/VERSION/SHA256.ARCH.json   as it lies in a store
//	BASE/files/SHA256                                           under files/ in a store
//	BASE/NAME                                                   anything else
//
// each perhaps with #sha256=HEX behind it. The image's kernel, initrd, indexes
// and blocks lie below BASE as in a store (docs/formats.md).
type URL struct {
	Base   string
	Path   string        // of the manifest, below Base
	Digest digest.SHA256 // of the manifest, by its name or by what stands behind it; zero: nobody has said
}

// Known tells whether the manifest's digest is part of the URL.
func (u URL) Known() bool { return !u.Digest.IsZero() }

// String returns the URL without what stands behind #.
func (u URL) String() string { return u.Base + "/" + u.Path }

// Parse reads a URL. Errors wrap ErrInvalid.
func Parse(s string) (URL, error) {
	bad := func(format string, args ...any) (URL, error) {
		return URL{}, fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
	}
	plain, fragment, marked := strings.Cut(strings.TrimSpace(s), "#")
	var given digest.SHA256
	if marked {
		hex, ok := strings.CutPrefix(fragment, "sha256=")
		if !ok {
			return bad("%q behind #; want sha256= and 64 hexadecimal digits", fragment)
		}
		var err error
		if given, err = digest.Parse(hex); err != nil {
			return bad("%w", err)
		}
	}
	if err := site.CheckURL(plain); err != nil {
		return bad("%w", err)
	}
	p, err := url.Parse(plain)
	if err != nil {
		return bad("%w", err)
	}
	if p.Path != path.Clean(p.Path) || p.Path == "/" || strings.HasSuffix(plain, "/") {
		return bad("%q names no file", plain)
	}
	u := URL{Digest: given}
	for i := range len(p.Path) {
		if p.Path[i] != '/' {
			continue
		}
		kind, sum, ok := storepath.Parse(p.Path[i+1:])
		if !ok || kind != storepath.KindTarget && kind != storepath.KindFile {
			continue
		}
		if u.Path = p.Path[i+1:]; !given.IsZero() && given != sum {
			return bad("its name says %s, but behind # stands %s", sum.Short(), given.Short())
		}
		u.Digest = sum
		break
	}
	if u.Path == "" {
		u.Path = path.Base(p.Path)
	}
	if u.Base = strings.TrimSuffix(plain, "/"+u.Path); u.Base == plain {
		return bad("%q: characters that have to be escaped are not possible", u.Path)
	}
	if err := site.CheckURL(u.Base); err != nil {
		return bad("%w", err)
	}
	return u, nil
}
