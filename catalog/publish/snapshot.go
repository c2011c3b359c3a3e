package publish

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/inetboot/inetboot/catalog/tuf"
)

// Seal is what makes new metadata the newest: a snapshot and a timestamp.
type Seal struct {
	Root    []byte            // that counts now
	Old     *tuf.Trusted      // what it replaces; nil for the first
	Roles   map[string][]byte // targets roles that are new; empty: the snapshot stays, if it still counts
	Signers Signers
	Now     time.Time

	Lifetime time.Duration // 0: as the root says
	Skip     int64         // versions of the snapshot that are left out
	Anew     bool          // a new snapshot even if no role is new
}

// Sealed is a Seal's result.
type Sealed struct {
	Snapshot        []byte // nil: the old one stays
	SnapshotVersion int64
	Timestamp       []byte
}

// Sign signs the snapshot, if there has to be a new one, and the timestamp.
// Errors wrap ErrTooFew if the signers do not suffice.
func (s *Seal) Sign(ctx context.Context) (*Sealed, error) {
	root, err := parse(metadata.Root(), s.Root)
	if err != nil {
		return nil, err
	}
	role := func(name string) (Role, time.Duration) {
		r := rootRole(root, name)
		if s.Lifetime > 0 {
			return r, s.Lifetime
		}
		return r, r.Lifetime
	}
	out := &Sealed{}
	snapshot := []byte(nil)
	r, d := role(tuf.RoleSnapshot)
	if s.Old == nil || len(s.Roles) > 0 || s.Anew {
		m := metadata.Snapshot()
		m.Signed.Meta = make(map[string]*metadata.MetaFiles)
		if s.Old != nil {
			if m, err = parse(metadata.Snapshot(), s.Old.Snapshot().Bytes()); err != nil {
				return nil, err
			}
			m.Signed.Version++
			m.ClearSignatures()
		}
		m.Signed.Version += s.Skip
		for name, data := range s.Roles {
			t, err := parse(metadata.Targets(), data)
			if err != nil {
				return nil, err
			}
			m.Signed.Meta[name+".json"] = metaFile(t.Signed.Version, data)
		}
		m.Signed.Expires = until(s.Now, d)
		if err := sign(ctx, m, r.KeyIDs, s.Signers); err != nil {
			return nil, err
		}
		if err := signed(m, r); err != nil {
			return nil, err
		}
		if out.Snapshot, err = encode(m); err != nil {
			return nil, err
		}
		snapshot, out.SnapshotVersion = out.Snapshot, m.Signed.Version
	} else {
		snapshot, out.SnapshotVersion = s.Old.Snapshot().Bytes(), s.Old.Snapshot().Version()
	}
	r, d = role(tuf.RoleTimestamp)
	m := metadata.Timestamp()
	if s.Old != nil {
		m.Signed.Version = s.Old.Timestamp().Version() + 1
	}
	m.Signed.Meta = map[string]*metadata.MetaFiles{tuf.RoleSnapshot + ".json": metaFile(out.SnapshotVersion, snapshot)}
	m.Signed.Expires = until(s.Now, d)
	if err := sign(ctx, m, r.KeyIDs, s.Signers); err != nil {
		return nil, err
	}
	if err := signed(m, r); err != nil {
		return nil, err
	}
	if out.Timestamp, err = encode(m); err != nil {
		return nil, err
	}
	if len(out.Timestamp) > tuf.MaxTimestamp || len(out.Snapshot) > tuf.MaxSnapshot {
		return nil, fmt.Errorf("snapshot of %d and timestamp of %d bytes: at most %d and %d are allowed", len(out.Snapshot), len(out.Timestamp), tuf.MaxSnapshot, tuf.MaxTimestamp)
	}
	return out, nil
}

func metaFile(version int64, data []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(data)
	return &metadata.MetaFiles{Version: version, Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

// Due tells whether metadata that expires at the given time has to be signed
// anew: less than half of its lifetime is left.
func Due(expires time.Time, lifetime time.Duration, now time.Time) bool {
	return expires.Sub(now) < lifetime/2
}
