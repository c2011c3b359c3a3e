package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Options says how to read a source.
type Options struct {
	TempDir string // for contents that have to be kept; "": see TempDir
	Arch    string // as GOARCH: which image of several; "": this machine's
	Ref     string // which image of several: a tag or name; "": the only one
	// Partition of a disk that has the root, as Linux counts; 0: the only one.
	Partition int
	// Whiteouts has files named .wh.NAME take away what is below, as in
	// layers of container images.
	Whiteouts bool
	// Progress is called with the number of bytes that were read and the
	// total, which is negative if it is not known. It may be nil, and it is
	// not called concurrently.
	Progress func(done, total int64)
}

// Reader adds the entries of one kind of source to b. What has to be closed
// with the tree it gives to b.OnClose.
type Reader func(ctx context.Context, b *Builder, name string, o Options) error

// Builder makes a tree out of entries that come in any order, in one layer or
// several. It is not safe for concurrent use.
type Builder struct {
	limits  Limits
	exclude *Exclude
	used    used

	byPath  map[string]*Entry
	notes   []string
	origin  Origin
	closers []io.Closer

	layer   int32
	overlay bool // this layer is laid over as Overlay says
	removed []string
	opaque  map[string]bool
}

// NewBuilder returns a builder whose tree has a root directory, and without
// what exclude names, which may be nil.
func NewBuilder(l Limits, exclude *Exclude) *Builder {
	root := &Entry{Mode: TypeDir | 0o755, implied: true}
	return &Builder{
		limits: l.withDefaults(), exclude: exclude,
		byPath: map[string]*Entry{"": root}, opaque: make(map[string]bool),
	}
}

// Note remembers something that the publisher should know, once.
func (b *Builder) Note(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if !slices.Contains(b.notes, s) && len(b.notes) < 100 {
		b.notes = append(b.notes, s)
	}
}

// OnClose has c closed with the tree.
func (b *Builder) OnClose(c io.Closer) { b.closers = append(b.closers, c) }

// Close closes what readers gave to OnClose. After Tree, the tree does that.
func (b *Builder) Close() error {
	var errs []error
	for _, c := range b.closers {
		errs = append(errs, c.Close())
	}
	b.closers = nil
	return errors.Join(errs...)
}

// SetExclude replaces what the builder was told to leave out.
func (b *Builder) SetExclude(x *Exclude) { b.exclude = x }

// Take moves everything that is in other to b, which has to be empty. What b
// excludes stays excluded. Nothing can be done with other afterwards.
func (b *Builder) Take(other *Builder) error {
	if len(b.byPath) > 1 || b.layer > 0 {
		return errors.New("take the entries of another builder: there are some already")
	}
	b.byPath, b.used, b.layer, b.origin = other.byPath, other.used, other.layer, other.origin
	b.removed, b.opaque = other.removed, other.opaque
	b.notes = append(b.notes, other.notes...)
	b.closers = append(b.closers, other.closers...)
	*other = Builder{}
	return nil
}

// Excluded tells whether the entry at p will not be in the tree, nor anything
// in it. Readers may leave it out, unless hard links to it can follow.
func (b *Builder) Excluded(p string) bool { return b.exclude.Match(p) }

// Lookup returns the entry that is at p now, or nil.
func (b *Builder) Lookup(p string) *Entry { return b.byPath[p] }

// NextLayer ends a layer: what is added from now on lies over what is there,
// as OCI's image specification says of layers.
func (b *Builder) NextLayer() error {
	b.finishLayer()
	if b.layer++; int(b.layer) > b.limits.Layers {
		return fmt.Errorf("%w: it has more than %d layers: raise --max-layers if that is right", ErrRefused, b.limits.Layers)
	}
	b.overlay = false
	return nil
}

// Overlay ends a layer and lays the next one over as people copy files into a
// system: a directory goes into the directory that is there, or that a
// symbolic link leads to, and leaves its owner, mode and attributes alone.
//
// What the builder excludes stays out of the layers before it only.
func (b *Builder) Overlay() error {
	if err := b.NextLayer(); err != nil {
		return err
	}
	b.applyExclude()
	b.overlay = true
	return nil
}

// Remove takes away what the layers below have at p.
func (b *Builder) Remove(p string) { b.removed = append(b.removed, b.place(p)) }

// Opaque takes away what the layers below have in the directory p.
func (b *Builder) Opaque(p string) { b.opaque[b.place(p)] = true }

// place returns the path that p has in the tree: for an overlay, links in its
// directories are followed.
func (b *Builder) place(p string) string {
	if !b.overlay || p == "" {
		return p
	}
	dir := parentPath(p)
	have, err := resolve(b.Lookup, dir)
	if err != nil || !have.IsDir() {
		return p
	}
	return join(have.Path, strings.TrimPrefix(p[len(dir):], "/"))
}

// Add puts e into the tree, with the path it has (see CleanPath). A later
// entry of a layer replaces an earlier one of the same name and kind.
func (b *Builder) Add(e *Entry) error {
	e.layer, e.inLayer = b.layer, b.layer
	return b.add(e)
}

// Link adds p as another name of the file at target.
func (b *Builder) Link(p, target string) error {
	to := b.byPath[b.place(target)]
	if to == nil || to.IsDir() {
		return fmt.Errorf("%w: /%s is a hard link to /%s, which is not there before it", ErrRefused, p, target)
	}
	if to.Inode == 0 {
		return fmt.Errorf("/%s cannot have another name, /%s: its reader gave it no number", target, p)
	}
	link := *to
	link.Path, link.layer, link.in = p, b.layer, nil
	if link.IsRegular() {
		b.used.size -= link.Size // is counted once
	}
	return b.add(&link)
}

// Replace puts e in the place of the entry that has its path and kind.
func (b *Builder) Replace(e *Entry) error {
	old := b.byPath[e.Path]
	if old == nil || old.Type() != e.Type() {
		return fmt.Errorf("replace /%s: it is not there, or of another kind", e.Path)
	}
	if old.IsRegular() {
		b.used.size -= old.Size
	}
	b.used.entries--
	if err := b.used.entry(b.limits, e); err != nil {
		return err
	}
	e.in, e.layer, e.inLayer = old.in, b.layer, b.layer
	*old = *e
	return nil
}

func (b *Builder) add(e *Entry) error {
	if err := b.used.entry(b.limits, e); err != nil {
		return err
	}
	e.Path = b.place(e.Path)
	if e.Path == "" {
		return b.setRoot(e)
	}
	if err := b.makeParents(e.Path); err != nil {
		return err
	}
	old := b.byPath[e.Path]
	switch {
	case old == nil:
	case old.layer == b.layer && !old.implied:
		if old.Type() != e.Type() {
			return fmt.Errorf("%w: /%s is there twice, as different kinds of files", ErrRefused, e.Path)
		}
		e.in = old.in
	case old.layer == b.layer && !e.IsDir():
		return fmt.Errorf("%w: /%s is there twice, as different kinds of files", ErrRefused, e.Path)
	case b.overlay && e.IsDir() && b.isDir(old):
		return nil
	case old.IsDir() && e.IsDir():
		e.in = old.in
	case old.IsDir():
		if b.anyNew(old) {
			return fmt.Errorf("%w: /%s is there twice, as different kinds of files", ErrRefused, e.Path)
		}
		b.drop(old)
		old = nil
	}
	if old == nil {
		parent := b.byPath[parentPath(e.Path)]
		parent.contain(append(parent.Children(), e))
		b.byPath[e.Path] = e
		return nil
	}
	*old = *e
	return nil
}

// isDir tells whether e is a directory or a link that leads to one.
func (b *Builder) isDir(e *Entry) bool {
	if e.Type() != TypeSymlink {
		return e.IsDir()
	}
	to, err := resolve(b.Lookup, e.Path)
	return err == nil && to.IsDir()
}

func (b *Builder) setRoot(e *Entry) error {
	if !e.IsDir() {
		return fmt.Errorf("%w: its root is not a directory", ErrRefused)
	}
	if b.overlay {
		return nil
	}
	root := b.byPath[""]
	e.in = root.in
	*root = *e
	return nil
}

// makeParents makes the directories that p lies in, as far as nothing has
// described them.
func (b *Builder) makeParents(p string) error {
	dir := parentPath(p)
	if have := b.byPath[dir]; have != nil {
		if !have.IsDir() {
			return fmt.Errorf("%w: /%s lies in /%s, which is not a directory", ErrRefused, p, dir)
		}
		return nil
	}
	if err := b.makeParents(dir); err != nil {
		return err
	}
	e := &Entry{Path: dir, Mode: TypeDir | 0o755, layer: b.layer, implied: true}
	if err := b.used.entry(b.limits, e); err != nil {
		return err
	}
	parent := b.byPath[parentPath(dir)]
	parent.contain(append(parent.Children(), e))
	b.byPath[dir] = e
	return nil
}

// drop removes e and everything in it.
func (b *Builder) drop(e *Entry) {
	for _, c := range e.Children() {
		if !c.gone {
			b.drop(c)
		}
	}
	e.in = nil
	e.gone = true
	delete(b.byPath, e.Path)
}

// finishLayer does what Remove and Opaque asked for: nothing of the layer
// itself is touched, whatever the order in which things came.
func (b *Builder) finishLayer() {
	type target struct {
		path string
		self bool // and not only what is in it
	}
	var targets []target
	for _, p := range b.removed {
		targets = append(targets, target{p, p != ""})
	}
	for p := range b.opaque {
		targets = append(targets, target{p, false})
	}
	b.removed = nil
	clear(b.opaque)
	// What lies in another target is done with that: each entry is visited
	// once.
	slices.SortFunc(targets, func(x, y target) int {
		if c := comparePaths(x.path, y.path); c != 0 {
			return c
		}
		return boolOrder(y.self, x.self)
	})
	top := ""
	for i, t := range targets {
		if i > 0 && (top == "" || t.path == top || strings.HasPrefix(t.path, top+"/")) {
			continue
		}
		top = t.path
		e := b.byPath[t.path]
		if e == nil {
			continue
		}
		b.dropOld(e)
		if t.self && e.layer != b.layer && e.in == nil {
			b.drop(e)
		}
	}
}

// comparePaths orders paths so that what is in a directory follows it at once.
func comparePaths(a, b string) int {
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		switch {
		case x == y:
		case x == '/':
			return -1
		case y == '/':
			return 1
		default:
			return int(x) - int(y)
		}
	}
	return len(a) - len(b)
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// anyNew tells whether something in e is of this layer.
func (b *Builder) anyNew(e *Entry) bool {
	return slices.ContainsFunc(e.Children(), func(c *Entry) bool { return !c.gone && (c.layer == b.layer || b.anyNew(c)) })
}

// dropOld removes what is in e and of layers below, but for directories with
// something new in them.
func (b *Builder) dropOld(e *Entry) {
	for _, c := range e.Children() {
		if c.gone {
			continue
		}
		b.dropOld(c)
		if c.layer != b.layer && c.in == nil {
			c.gone = true
			delete(b.byPath, c.Path)
		}
	}
	e.contain(slices.DeleteFunc(e.Children(), func(c *Entry) bool { return c.gone }))
}

// Tree ends the last layer and returns the tree.
func (b *Builder) Tree() (*Tree, error) {
	b.finishLayer()
	b.applyExclude()
	t := &Tree{Notes: b.notes, Origin: b.origin, closers: b.closers}
	root, n := b.byPath[""], len(b.byPath)
	b.byPath, b.closers = nil, nil
	t.assemble(root, n)
	return t, nil
}

// applyExclude removes what is excluded.
func (b *Builder) applyExclude() {
	x := b.exclude
	if b.exclude = nil; x == nil {
		return
	}
	var walk func(e *Entry)
	walk = func(e *Entry) {
		for _, c := range e.Children() {
			switch {
			case c.gone:
			case x.Match(c.Path):
				b.drop(c)
			default:
				walk(c)
			}
		}
	}
	walk(b.byPath[""])
}

// assemble sorts the entries, finds the first of each group of names for one
// file, and counts them. There are n below root, with it.
func (t *Tree) assemble(root *Entry, n int) {
	t.ordered = make([]*Entry, 0, n)
	var walk func(e *Entry)
	walk = func(e *Entry) {
		e.index = int32(len(t.ordered))
		t.ordered = append(t.ordered, e)
		e.contain(slices.DeleteFunc(e.Children(), func(c *Entry) bool { return c.gone }))
		// All paths begin with the directory's own.
		slices.SortFunc(e.Children(), func(a, b *Entry) int { return strings.Compare(a.Path, b.Path) })
		for _, c := range e.Children() {
			walk(c)
		}
		e.contain(slices.Clip(e.Children()))
	}
	walk(root)
	t.ordered = slices.Clip(t.ordered)

	type inode struct {
		layer  int32
		number uint64
	}
	firsts := make(map[inode]*Entry)
	for _, e := range t.ordered {
		e.Nlink, e.First = 1, nil
		if e.IsDir() {
			e.Nlink = 2
			for _, c := range e.Children() {
				if c.IsDir() {
					e.Nlink++
				}
			}
			continue
		}
		if e.Inode == 0 {
			continue
		}
		id := inode{e.inLayer, e.Inode}
		if first, ok := firsts[id]; ok {
			e.First = first
			first.Nlink++
		} else {
			firsts[id] = e
		}
	}
	for _, e := range t.ordered {
		if e.First != nil {
			e.Nlink = e.First.Nlink
		}
	}
}
