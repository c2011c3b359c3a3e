package publish

import (
	"fmt"
	"maps"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Changes says in words what a list of targets, which need not have been
// verified, changes of the one before it (nil: there is none), and returns its
// version: what a person has to see before signing it.
func Changes(was, is []byte) (version int64, changes []string, err error) {
	next, err := parse(metadata.Targets(), is)
	if err != nil {
		return 0, nil, err
	}
	old := metadata.Targets()
	if was != nil {
		if old, err = parse(metadata.Targets(), was); err != nil {
			return 0, nil, err
		}
	}
	changes = []string{}
	for _, name := range slices.Sorted(maps.Keys(next.Signed.Targets)) {
		t, have := next.Signed.Targets[name], old.Signed.Targets[name]
		sum := Short(t.Hashes["sha256"].String())
		if have == nil {
			changes = append(changes, fmt.Sprintf("%s is added (%s)", name, sum))
		} else if !t.Equal(*have) {
			changes = append(changes, fmt.Sprintf("%s is replaced (%s)", name, sum))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old.Signed.Targets)) {
		if next.Signed.Targets[name] == nil {
			changes = append(changes, name+" is removed")
		}
	}
	before, after := delegated(old), delegated(next)
	for _, text := range after {
		if !slices.Contains(before, text) {
			changes = append(changes, "publisher "+text+" is added or changed")
		}
	}
	for _, text := range before {
		if !slices.Contains(after, text) {
			changes = append(changes, "publisher "+text+" is removed or changed")
		}
	}
	return next.Signed.Version, append(changes, fmt.Sprintf("expires %s", next.Signed.Expires.UTC().Format("2006-01-02"))), nil
}

// delegated describes the delegations of a list.
func delegated(m *metadata.Metadata[metadata.TargetsType]) []string {
	if m.Signed.Delegations == nil {
		return nil
	}
	var out []string
	for _, r := range m.Signed.Delegations.Roles {
		var ids []string
		for _, id := range r.KeyIDs {
			ids = append(ids, Short(id))
		}
		out = append(out, fmt.Sprintf("%s (%v, %d of the keys %v)", r.Name, r.Paths, r.Threshold, ids))
	}
	return out
}
