// Package trace builds boot packs by hand, for stores that no server looks
// after: from reports that booted machines have saved.
package trace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// ErrReport is wrapped when a report cannot be used for an image.
var ErrReport = errors.New("the report cannot be used")

// ErrNoPack is wrapped when an image has no boot pack.
var ErrNoPack = errors.New("the image has no boot pack")

// maxIndex bounds the index of a root's file, in bytes: of some 800 GB.
const maxIndex = 128 << 20

// Report is a report and what to call it in messages.
type Report struct {
	Name string
	*pack.Report
}

// Read reads a report from a file.
func Read(name string) (Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return Report{}, fmt.Errorf("%w: %w", ErrReport, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, pack.MaxReport+1))
	if err != nil {
		return Report{}, fmt.Errorf("%w: %w", ErrReport, err)
	}
	r, err := pack.ParseReport(data)
	if err != nil {
		return Report{}, fmt.Errorf("%s: %w: %w", name, ErrReport, err)
	}
	return Report{name, r}, nil
}

// Added says what Add has done.
type Added struct {
	Reports int   `json:"reports"` // that count
	Blocks  int   `json:"blocks"`
	Bytes   int64 `json:"bytes"`  // of the pack
	Plain   int64 `json:"plain"`  // bytes of its blocks
	Stored  int64 `json:"stored"` // their bytes in the store
	Root    int64 `json:"root"`   // stored bytes of all blocks of the root
	Missing int   `json:"missing"`
	Over    int   `json:"left_out"` // blocks at the end for which there was no room
}

// Add merges reports, the newest last, and stores the pack that they give.
// temp is the folder for a temporary file.
func Add(ctx context.Context, st store.Store, img *catalog.Image, reports []Report, temp string) (*Added, error) {
	m := img.Manifest()
	root, err := indexes(ctx, st, &m)
	if err != nil {
		return nil, err
	}
	var list []*pack.Report
	for _, r := range reports {
		if r.Image.Manifest != img.Digest() {
			return nil, fmt.Errorf("%s: %w: it is about %s %s %s with the manifest %s, not %s", r.Name, ErrReport,
				r.Image.Name, r.Image.Version, r.Image.Arch, r.Image.Manifest.Short(), img.Digest().Short())
		}
		if pack.Merge(root, []*pack.Report{r.Report}, 0).Refused > 0 {
			return nil, fmt.Errorf("%s: %w: it lists blocks that the root does not have", r.Name, ErrReport)
		}
		list = append(list, r.Report)
	}
	merged := pack.Merge(root, list, 0)
	if len(merged.Blocks) == 0 {
		return nil, fmt.Errorf("%w: at least half of %d reports agree on no block", ErrReport, merged.Reports)
	}

	f, err := os.CreateTemp(temp, "inetboot-pack-*")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrNoRoom, err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return nil, fmt.Errorf("prepare a temporary file: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	built, err := pack.Build(ctx, f, img.Digest(), merged.Blocks, newAhead(ctx, st, merged.Blocks))
	if err != nil {
		return nil, err
	}
	if err := st.PutPack(ctx, img.Digest(), f, built.Bytes); err != nil {
		return nil, err
	}
	return &Added{
		Reports: merged.Reports, Blocks: built.Records, Bytes: built.Bytes, Plain: built.Plain, Stored: built.Stored,
		Root: stored(&m), Missing: built.Missing, Over: merged.Over + built.Over,
	}, nil
}

func stored(m *catalog.Manifest) (sum int64) {
	for _, f := range m.Root.Files {
		sum += f.Stored
	}
	return sum
}

func indexes(ctx context.Context, st store.Store, m *catalog.Manifest) ([]*index.Index, error) {
	var out []*index.Index
	for _, f := range m.Root.Files {
		data, err := st.Read(ctx, storepath.Index(f.Index.SHA256), nil, min(f.Index.Size, maxIndex), func(b []byte) error { return f.Index.SHA256.Check("index of "+f.Name, b) })
		if err != nil {
			return nil, err
		}
		x, err := index.Parse(data)
		if err != nil {
			return nil, fmt.Errorf("index of %s: %w", f.Name, err)
		}
		out = append(out, x)
	}
	return out, nil
}

// ahead is a pack.Source for a list of blocks, which asks for several at a
// time. They have to be taken in their order.
type ahead struct{ next chan chan fetched }

type fetched struct {
	data []byte
	err  error
}

func newAhead(ctx context.Context, st store.Store, blocks []index.Entry) *ahead {
	a := &ahead{next: make(chan chan fetched, st.Parallel())}
	go func() {
		for _, e := range blocks {
			one := make(chan fetched, 1)
			select {
			case a.next <- one: // as long as there is room for one more
			case <-ctx.Done():
				return
			}
			go func() {
				data, err := st.Read(ctx, storepath.Block(e.SHA256), nil, int64(block.MaxStored(block.MaxPlain)), nil)
				if errors.Is(err, store.ErrNotExist) {
					err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
				}
				one <- fetched{data, err}
			}()
		}
	}()
	return a
}

// Stored implements pack.Source.
func (a *ahead) Stored(ctx context.Context, _ index.Entry, _ []byte) ([]byte, error) {
	select {
	case one := <-a.next:
		f := <-one
		return f.data, f.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Shown says what an image's pack has.
type Shown struct {
	Bytes   int64   `json:"bytes"`  // of the pack
	Blocks  int     `json:"blocks"` // in it
	Plain   int64   `json:"plain"`  // bytes of its blocks
	Stored  int64   `json:"stored"` // bytes of its blocks as stored
	Root    int64   `json:"root"`   // stored bytes of all blocks of the root
	Of      int     `json:"of"`     // blocks of the root
	Share   float64 `json:"share"`  // Stored / Root
	Foreign int     `json:"foreign"`
	Files   []File  `json:"files"`
}

// File says what a pack has of one file of the root. A block of two files
// counts for the first.
type File struct {
	Name   string `json:"name"`
	Blocks int    `json:"blocks"`
	Of     int    `json:"of"` // blocks of the file
	Stored int64  `json:"stored"`
}

// Show reads the pack of an image. Without one the error wraps ErrNoPack.
func Show(ctx context.Context, st store.Store, img *catalog.Image) (*Shown, error) {
	m := img.Manifest()
	root, err := indexes(ctx, st, &m)
	if err != nil {
		return nil, err
	}
	s := &Shown{Root: stored(&m)}
	where := make(map[digest.SHA256]int)
	for i, x := range root {
		f := m.Root.Files[i]
		s.Files = append(s.Files, File{Name: f.Name, Of: f.Blocks})
		s.Of += f.Blocks
		for b := range x.Len() {
			if e := x.Entry(b); !e.Zero() {
				if _, ok := where[e.SHA256]; !ok {
					where[e.SHA256] = i
				}
			}
		}
	}
	body, err := st.OpenPack(ctx, img.Digest())
	if errors.Is(err, store.ErrNotExist) {
		return nil, fmt.Errorf("%s %s %s: %w", m.Name, m.Version, m.Arch, ErrNoPack)
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	r, err := pack.NewReader(body, img.Digest(), 0)
	if err != nil {
		return nil, err
	}
	s.Bytes = r.Header().Bytes
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		s.Blocks++
		s.Plain += int64(rec.PlainLen)
		s.Stored += int64(rec.StoredLen)
		if i, ok := where[rec.SHA256]; ok {
			s.Files[i].Blocks++
			s.Files[i].Stored += int64(rec.StoredLen)
		} else {
			s.Foreign++
		}
	}
	if s.Root > 0 {
		s.Share = float64(s.Stored) / float64(s.Root)
	}
	return s, nil
}

// Remove removes the pack of an image. Without one the error wraps ErrNoPack.
func Remove(ctx context.Context, st store.Store, img *catalog.Image) error {
	err := st.RemovePack(ctx, img.Digest())
	if errors.Is(err, store.ErrNotExist) {
		m := img.Manifest()
		return fmt.Errorf("%s %s %s: %w", m.Name, m.Version, m.Arch, ErrNoPack)
	}
	return err
}
