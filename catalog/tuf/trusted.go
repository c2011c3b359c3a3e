package tuf

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/inetboot/inetboot/internal/storepath"
)

// Root returns the newest root.
func (t *Trusted) Root() *Root { return t.roots[len(t.roots)-1] }

// Timestamp returns the timestamp, nil if a floor has none.
func (t *Trusted) Timestamp() *Timestamp { return t.timestamp }

// Snapshot returns the snapshot, nil if a floor has none.
func (t *Trusted) Snapshot() *Snapshot { return t.snapshot }

// Targets returns the metadata of the top-level targets role.
func (t *Trusted) Targets() *Targets {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.roles[RoleTargets]
}

// Expires returns when the first of the top-level roles expires, and which it
// is.
func (t *Trusted) Expires() (role string, at time.Time) {
	for _, d := range []*document{&t.Root().document, &t.timestamp.document, &t.snapshot.document, &t.Targets().document} {
		if at.IsZero() || d.expires.Before(at) {
			role, at = d.role, d.expires
		}
	}
	return role, at
}

// From returns the same set, which reads delegated roles from src from now on.
func (t *Trusted) From(src Source) *Trusted {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := &Trusted{src: src, now: t.now, old: &Trusted{}, roots: t.roots, timestamp: t.timestamp, snapshot: t.snapshot, roles: make(map[string]*Targets)}
	for n, r := range t.roles {
		out.roles[n] = r
	}
	return out
}

// NotOlder returns an error that wraps ErrRollback if t is older than what was
// trusted before. It is for a floor that is found after the update.
func (t *Trusted) NotOlder(floor *Trusted) error {
	if floor == nil {
		return nil
	}
	if have, seen := t.Root().version, floor.Root().version; have < seen {
		return rollback(RoleRoot, have, seen)
	}
	old, by := floor.timestamp, t.Root().roles[RoleTimestamp]
	if old != nil && by.verify(&old.document) == nil {
		if t.timestamp == nil {
			return rollback(RoleTimestamp, 0, old.version)
		}
		if have, seen := t.timestamp.version, old.version; have < seen {
			return rollback(RoleTimestamp, have, seen)
		}
		if have, seen := t.timestamp.snapshot.Version, old.snapshot.Version; have < seen {
			return rollback(RoleSnapshot, have, seen)
		}
	}
	by = t.Root().roles[RoleSnapshot]
	if floor.snapshot != nil && by.verify(&floor.snapshot.document) == nil {
		if t.snapshot == nil {
			return rollback(RoleSnapshot, 0, floor.snapshot.version)
		}
		return t.snapshot.notOlder(floor.snapshot)
	}
	return nil
}

// File is metadata as it lies in a store.
type File struct {
	Path string
	Data []byte
}

// Files returns all metadata of the set, as far as it was read, with the
// timestamp, which is what leads to the others, at the end.
func (t *Trusted) Files() []File {
	var out []File
	for _, r := range t.roots {
		out = append(out, File{storepath.RoleMetadata(RoleRoot, r.version), r.data})
	}
	t.mu.Lock()
	var names []string
	for n := range t.roles {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		out = append(out, File{storepath.RoleMetadata(n, t.roles[n].version), t.roles[n].data})
	}
	t.mu.Unlock()
	if t.snapshot != nil {
		out = append(out, File{storepath.RoleMetadata(RoleSnapshot, t.snapshot.version), t.snapshot.data})
	}
	if t.timestamp != nil {
		out = append(out, File{storepath.Timestamp, t.timestamp.data})
	}
	return out
}

// visit is a role that may list a target, and who says so.
type visit struct {
	name string
	by   role
}

// Lookup finds a target by a pre-order walk of the delegations (section
// 5.6.7), and the role that lists it. The error wraps ErrNotFound if none does.
func (t *Trusted) Lookup(ctx context.Context, name string) (Target, string, error) {
	stack := []visit{{RoleTargets, t.Root().roles[RoleTargets]}}
	visited := make(map[string]bool)
	for len(stack) > 0 && len(visited) <= MaxVisited {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if visited[v.name] {
			continue
		}
		r, err := t.load(ctx, v.name, v.by)
		if err != nil {
			return Target{}, "", err
		}
		if f, ok := r.Targets[name]; ok {
			return f, v.name, nil
		}
		visited[v.name] = true
		var next []visit
		for i := range r.Delegations {
			d := &r.Delegations[i]
			if !d.covers(name) {
				continue
			}
			next = append(next, visit{d.Name, d.role})
			if d.Terminating {
				stack = nil
				break
			}
		}
		slices.Reverse(next)
		stack = append(stack, next...)
	}
	return Target{}, "", fmt.Errorf("%s is %w", name, ErrNotFound)
}

// Listed is a target and the role that lists it.
type Listed struct {
	Target
	Role string
}

// All returns every target that can be found by its name. Roles that have not
// been published yet are passed over.
func (t *Trusted) All(ctx context.Context) (map[string]Listed, error) {
	names := make(map[string]bool)
	seen := make(map[string]bool)
	queue := []visit{{RoleTargets, t.Root().roles[RoleTargets]}}
	for len(queue) > 0 {
		v := queue[0]
		queue = queue[1:]
		if _, published := t.snapshot.Meta(v.name); seen[v.name] || !published {
			continue
		}
		seen[v.name] = true
		r, err := t.load(ctx, v.name, v.by)
		if err != nil {
			return nil, err
		}
		for n := range r.Targets {
			names[n] = true
		}
		for _, d := range r.Delegations {
			queue = append(queue, visit{d.Name, d.role})
		}
	}
	out := make(map[string]Listed, len(names))
	for n := range names {
		f, role, err := t.Lookup(ctx, n)
		if err == nil {
			out[n] = Listed{f, role}
		}
	}
	return out, nil
}

// Role returns the metadata of a delegated role that the targets role, or one
// that it trusts, names, and the delegation. The error wraps ErrNotFound if
// nobody does or it has not been published; the delegation is nil if nobody does.
func (t *Trusted) Role(ctx context.Context, name string) (*Targets, *Delegation, error) {
	seen := make(map[string]bool)
	queue := []visit{{RoleTargets, t.Root().roles[RoleTargets]}}
	for len(queue) > 0 {
		v := queue[0]
		queue = queue[1:]
		if _, published := t.snapshot.Meta(v.name); seen[v.name] || !published {
			continue
		}
		seen[v.name] = true
		r, err := t.load(ctx, v.name, v.by)
		if err != nil {
			return nil, nil, err
		}
		for i := range r.Delegations {
			d := &r.Delegations[i]
			if d.Name == name {
				r, err := t.load(ctx, name, d.role)
				return r, d, err
			}
			queue = append(queue, visit{d.Name, d.role})
		}
	}
	return nil, nil, fmt.Errorf("the role %s is %w", name, ErrNotFound)
}
