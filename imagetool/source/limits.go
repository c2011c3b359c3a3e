package source

import "fmt"

// Limits bound what is taken from a source, so that a small archive cannot
// fill memory or disks. 0 means the default.
type Limits struct {
	Entries  int64 // names; default DefaultEntries
	Size     int64 // bytes of all contents, with holes; default DefaultSize
	Metadata int64 // bytes of names, targets and attributes; default DefaultMetadata
	Layers   int   // of a container image; default DefaultLayers
}

// The defaults of Limits, far beyond what operating systems have.
const (
	DefaultEntries  = 10_000_000
	DefaultSize     = 4 << 40
	DefaultMetadata = 2 << 30
	DefaultLayers   = 500
)

func (l Limits) withDefaults() Limits {
	if l.Entries == 0 {
		l.Entries = DefaultEntries
	}
	if l.Size == 0 {
		l.Size = DefaultSize
	}
	if l.Metadata == 0 {
		l.Metadata = DefaultMetadata
	}
	if l.Layers == 0 {
		l.Layers = DefaultLayers
	}
	return l
}

// used is what a builder has taken so far.
type used struct{ entries, size, metadata int64 }

// entry counts e, and refuses it when there is too much.
func (u *used) entry(l Limits, e *Entry) error {
	u.entries++
	if u.entries > l.Entries {
		return fmt.Errorf("%w: it has more than %d names: raise --max-entries if that is right", ErrRefused, l.Entries)
	}
	u.metadata += int64(len(e.Path) + len(e.Target))
	for k, v := range e.Xattrs {
		u.metadata += int64(len(k) + len(v))
	}
	if u.metadata > l.Metadata {
		return fmt.Errorf("%w: its names and attributes have more than %d MB", ErrRefused, l.Metadata>>20)
	}
	if e.IsRegular() {
		if e.Size < 0 || e.Size > l.Size-u.size {
			return fmt.Errorf("%w: its files have more than %d bytes at /%s: raise --max-size if that is right", ErrRefused, l.Size, e.Path)
		}
		u.size += e.Size
	}
	return nil
}
