package tuf

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"testing"
	"time"
)

// seed is a chain of metadata with one key, as catalog/publish writes it.
func seeds() map[string]string {
	return map[string]string{
		RoleRoot: `{"signatures":[{"keyid":"a","sig":"00"}],"signed":{"_type":"root","consistent_snapshot":true,"expires":"2031-11-25T15:13:31Z","keys":{"a":{"keytype":"ed25519","keyval":{"public":"77065472140aaa435b2ffa36c29b5efff2d9b2668e7b760128b07858bb3dd356"},"scheme":"ed25519"}},` +
			`"roles":{"root":{"keyids":["a"],"threshold":1,"x":1},"snapshot":{"keyids":["a"],"threshold":1},"targets":{"keyids":["a"],"threshold":1},"timestamp":{"keyids":["a"],"threshold":1}},"spec_version":"1.0.31","version":1}}`,
		RoleTimestamp: `{"signatures":[],"signed":{"_type":"timestamp","expires":"2027-11-26T15:13:31Z","meta":{"snapshot.json":{"hashes":{"sha256":"67d5"},"length":468,"version":1}},"spec_version":"1.0.31","version":1}}`,
		RoleSnapshot:  `{"signatures":[],"signed":{"_type":"snapshot","expires":"2027-11-26T15:13:31Z","meta":{"targets.json":{"version":1}},"spec_version":"1.0.31","version":1}}`,
		RoleTargets: `{"signatures":[],"signed":{"_type":"targets","expires":"2027-11-26T15:13:31Z","spec_version":"1.0.31","targets":{"menu.json":{"hashes":{"sha256":"9d37"},"length":364}},"version":1,` +
			`"delegations":{"keys":{},"roles":[{"name":"lab","keyids":[],"threshold":1,"terminating":true,"paths":["images/lab-*/*/*"]},{"name":"x","keyids":[],"threshold":1,"path_hash_prefixes":["0"]}]}}}`,
	}
}

// Whatever is parsed has the limits that the types promise, and has a
// canonical form that parses to the same canonical form.
func FuzzMetadata(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s))
	}
	f.Add([]byte(`{"signed":{"version":1e3},"signatures":[{"keyid":"\u0000","sig":"zz"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(d *document) {
			if d.version < 1 || d.expires.IsZero() || d.expires.Location() != time.UTC {
				t.Errorf("version %d, expires %v", d.version, d.expires)
			}
			v, err := parseJSON(d.payload)
			if err != nil {
				return // canonical JSON escapes less than JSON does
			}
			again, err := canonical(nil, v)
			if err != nil || !bytes.Equal(again, d.payload) {
				t.Errorf("canonical form of %q is %q, %v", d.payload, again, err)
			}
		}
		if r, err := parseRoot(data); err == nil {
			check(&r.document)
			for name, role := range r.roles {
				if role.threshold < 1 {
					t.Errorf("role %s has threshold %d", name, role.threshold)
				}
			}
		}
		if m, err := parseTimestamp(data); err == nil {
			check(&m.document)
		}
		if m, err := parseSnapshot(data); err == nil {
			check(&m.document)
		}
		if m, err := parseTargets("x", data); err == nil {
			check(&m.document)
			for i := range m.Delegations {
				m.Delegations[i].covers("images/lab-1/1/amd64.json")
			}
		}
	})
}

// canonical agrees with encoding/json about what plain documents mean.
func FuzzCanonical(f *testing.F) {
	f.Add([]byte(`{"b":[1,-2,null,true],"a":"\u00e9\"\\\/\ud83d\ude00","":{}}`))
	f.Add([]byte(`[9223372036854775807,-9223372036854775808,0]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := parseJSON(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Errorf("parseJSON(%q) takes what is no JSON", data)
		}
		c, err := canonical(nil, v)
		if err != nil {
			return
		}
		if w, err := parseJSON(c); err == nil {
			if d, err := canonical(nil, w); err != nil || !bytes.Equal(c, d) {
				t.Errorf("canonical(%q) = %q, and of that %q, %v", data, c, d, err)
			}
		}
	})
}

// fuzzed serves one file for each role.
type fuzzed map[string][]byte

func (s fuzzed) Read(_ context.Context, path string, _ []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	data, ok := s[path]
	if !ok || int64(len(data)) > limit {
		return nil, fs.ErrNotExist
	}
	return data, accept(data)
}

// Without the keys nothing is ever accepted.
func FuzzUpdate(f *testing.F) {
	s := seeds()
	f.Add([]byte(s[RoleRoot]), []byte(s[RoleTimestamp]), []byte(s[RoleSnapshot]), []byte(s[RoleTargets]))
	root, err := parseRoot([]byte(s[RoleRoot]))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, next, timestamp, snapshot, targets []byte) {
		src := fuzzed{"catalog/2.root.json": next, "catalog/timestamp.json": timestamp, "catalog/1.snapshot.json": snapshot, "catalog/1.targets.json": targets}
		set, err := Update(t.Context(), &Anchor{root: root}, src, Options{})
		if err == nil || set != nil {
			t.Errorf("Update() accepts what nobody signed: %q %q %q %q", next, timestamp, snapshot, targets)
		}
	})
}

// Patterns match as path.Match does element by element, and never panic.
func FuzzMatch(f *testing.F) {
	f.Add("images/*/[a-c]?/*.json", "images/x/b1/amd64.json")
	f.Add("[", "[")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if Match(pattern, name) && bytes.Count([]byte(pattern), []byte("/")) != bytes.Count([]byte(name), []byte("/")) {
			t.Errorf("Match(%q, %q) across a slash", pattern, name)
		}
	})
}
