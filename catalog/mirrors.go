package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/strictjson"
)

// MirrorsName is the target that holds the list of mirrors.
const MirrorsName = "mirrors.json"

// MirrorsFormat is the value of a MirrorList's "format".
const MirrorsFormat = "inetboot-mirrors/1"

// Bounds of a list of mirrors.
const (
	MaxMirrors     = 64       // entries
	MaxMirrorsSize = 64 << 10 // bytes of the file
	maxMirrorURL   = 500      // bytes
)

// MirrorList says where copies of the store are. Their order means nothing:
// each machine measures which is near.
type MirrorList struct {
	Format   string   `json:"format"`
	Requires []string `json:"requires,omitempty"`
	Mirrors  []Mirror `json:"mirrors"`
}

// Mirror is a copy of the store.
type Mirror struct {
	URL      string `json:"url"`                // base URL
	Location string `json:"location,omitempty"` // for people, such as "Vienna"
}

// ParseMirrors reads and checks a list of mirrors.
func ParseMirrors(data []byte) (*MirrorList, error) {
	var l MirrorList
	if err := strictjson.Unmarshal(data, MaxMirrorsSize, &l); err != nil {
		return nil, fmt.Errorf("the list of mirrors is %w: %w", ErrFormat, err)
	}
	if err := l.Check(); err != nil {
		return nil, err
	}
	return &l, nil
}

// Marshal checks l and returns it as a file.
func (l *MirrorList) Marshal() ([]byte, error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(l, "", " ")
	if err == nil && len(data) > MaxMirrorsSize {
		err = fmt.Errorf("the list of mirrors has %d bytes, at most %d are allowed", len(data), MaxMirrorsSize)
	}
	return data, err
}

// Check returns an error that wraps ErrFormat if l is not a list of mirrors.
func (l *MirrorList) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("the list of mirrors is %w: %w", ErrFormat, fmt.Errorf(format, args...))
	}
	if l.Format != MirrorsFormat {
		return bad("format is %q, want %q", l.Format, MirrorsFormat)
	}
	if err := strictjson.Requires("the list of mirrors", l.Requires, nil); err != nil {
		return err
	}
	if len(l.Mirrors) > MaxMirrors {
		return bad("%d mirrors, at most %d are allowed", len(l.Mirrors), MaxMirrors)
	}
	seen := make(map[string]bool)
	for _, m := range l.Mirrors {
		if err := printable(m.URL, maxMirrorURL); err != nil {
			return bad("URL: %w", err)
		}
		if err := site.CheckURL(m.URL); err != nil {
			return bad("%w", err)
		}
		if key := strings.TrimRight(m.URL, "/"); seen[key] {
			return bad("%s stands twice", m.URL)
		} else {
			seen[key] = true
		}
		if err := CheckText(m.Location); err != nil {
			return bad("location of %s: %w", m.URL, err)
		}
	}
	return nil
}

// Mirrors reads where copies of the store are; nil if the publisher named
// none.
func (c *Catalog) Mirrors(ctx context.Context) ([]Mirror, error) {
	data, _, err := c.target(ctx, MirrorsName)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l, err := ParseMirrors(data)
	if err != nil {
		return nil, err
	}
	return l.Mirrors, nil
}
