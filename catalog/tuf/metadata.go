package tuf

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/storepath"
)

// timeForm is the one form that expiry dates have (section 4.2.1).
const timeForm = "2006-01-02T15:04:05Z"

// document is signed metadata of any role, parsed, not yet verified.
type document struct {
	role       string // what it is expected to be, for messages
	data       []byte // as it came
	signed     object
	payload    []byte // canonical form of signed: what the signatures are over
	signatures map[string][]byte
	version    int64
	expires    time.Time
}

func malformed(role string, err error) error {
	return fmt.Errorf("the catalog's %s is %w: %w", role, ErrFormat, err)
}

// parse reads the envelope, and what all roles have in common.
func parse(role, kind string, data []byte, limit int) (*document, error) {
	if len(data) > limit {
		return nil, malformed(role, fmt.Errorf("%d bytes, at most %d are allowed", len(data), limit))
	}
	v, err := parseJSON(data)
	if err != nil {
		return nil, malformed(role, err)
	}
	top, ok := v.(object)
	if !ok {
		return nil, malformed(role, fmt.Errorf("no object"))
	}
	r := &reader{}
	d := &document{role: role, data: bytes.Clone(data), signed: member[object](r, top, "signed", false), signatures: make(map[string][]byte)}
	for _, v := range member[[]any](r, top, "signatures", false) {
		o, ok := v.(object)
		if !ok {
			r.fail("a signature is no object")
			break
		}
		id, text := r.str(o, "keyid"), r.str(o, "sig")
		sig, err := hex.DecodeString(text)
		if err != nil {
			r.fail("a signature is not hexadecimal")
		}
		if _, twice := d.signatures[id]; twice {
			r.fail("two signatures of key %s", short(id))
		}
		d.signatures[id] = sig
	}
	if r.err == nil {
		d.common(r, kind)
	}
	if r.err == nil {
		d.payload, r.err = canonical(nil, d.signed)
	}
	if r.err != nil {
		return nil, malformed(role, r.err)
	}
	return d, nil
}

func (d *document) common(r *reader, kind string) {
	if t := r.str(d.signed, "_type"); r.err == nil && t != kind {
		r.fail("_type is %.40q, want %q", t, kind)
	}
	if v := r.str(d.signed, "spec_version"); r.err == nil && !strings.HasPrefix(v, "1.") {
		r.fail("spec_version is %.40q, want 1.x", v)
	}
	d.version = r.integer(d.signed, "version", 1)
	text := r.str(d.signed, "expires")
	t, err := time.Parse(timeForm, text)
	if r.err == nil && (err != nil || t.Format(timeForm) != text) {
		r.fail("expires is %.40q, want a time like %s", text, timeForm)
	}
	d.expires = t
}

// Version returns the metadata's version.
func (d *document) Version() int64 { return d.version }

// Expires returns when the metadata expires.
func (d *document) Expires() time.Time { return d.expires }

// Bytes returns the metadata as it came. It must not be changed.
func (d *document) Bytes() []byte { return d.data }

// expired returns an *ExpiredError if the metadata does not count at now. The
// zero time judges nothing.
func (d *document) expired(now time.Time) error {
	if !now.IsZero() && !now.Before(d.expires) {
		return &ExpiredError{Role: d.role, Expires: d.expires, Now: now}
	}
	return nil
}

// keySet holds public keys by their ids. Keys of other types than ed25519 are
// nil: their signatures do not count.
type keySet map[string]ed25519.PublicKey

func (r *reader) keys(o object) keySet {
	set := make(keySet)
	r.objects(o, "keys", func(id string, k object) {
		keytype, scheme := r.str(k, "keytype"), r.str(k, "scheme")
		public := r.str(member[object](r, k, "keyval", false), "public")
		set[id] = nil
		if keytype != "ed25519" || scheme != "ed25519" {
			return
		}
		b, err := hex.DecodeString(public)
		if err != nil || len(b) != ed25519.PublicKeySize {
			r.fail("key %s is not %d bytes of hexadecimal", short(id), ed25519.PublicKeySize)
			return
		}
		set[id] = b
	})
	return set
}

// role is whose signatures make metadata count.
type role struct {
	keys      keySet // all of the delegator's
	ids       []string
	threshold int64
}

func (r *reader) role(o object, keys keySet) role {
	out := role{keys: keys, ids: r.strings(o, "keyids", false), threshold: r.integer(o, "threshold", 1)}
	for _, id := range out.ids {
		if _, ok := keys[id]; !ok {
			r.fail("key %s of a role is not listed", short(id))
		}
	}
	return out
}

// Root is root metadata (section 4.3).
type Root struct {
	document
	roles map[string]role
}

func parseRoot(data []byte) (*Root, error) {
	d, err := parse(RoleRoot, RoleRoot, data, MaxRoot)
	if err != nil {
		return nil, err
	}
	r := &reader{}
	root := &Root{document: *d, roles: make(map[string]role)}
	if consistent := member[bool](r, d.signed, "consistent_snapshot", false); r.err == nil && !consistent {
		r.fail("consistent_snapshot is false")
	}
	keys := r.keys(d.signed)
	r.objects(d.signed, "roles", func(name string, o object) { root.roles[name] = r.role(o, keys) })
	for _, name := range []string{RoleRoot, RoleTimestamp, RoleSnapshot, RoleTargets} {
		if _, ok := root.roles[name]; !ok {
			r.fail("the role %s is missing", name)
		}
	}
	if r.err != nil {
		return nil, malformed(RoleRoot, r.err)
	}
	return root, nil
}

// Keys returns the ids of the keys of a top-level role, and how many of them
// have to sign.
func (r *Root) Keys(role string) (ids []string, threshold int) {
	return r.roles[role].ids, int(r.roles[role].threshold)
}

// Hashes holds a file's hashes in hexadecimal by algorithm, such as "sha256".
type Hashes map[string]string

func (r *reader) hashes(o object) Hashes {
	out := make(Hashes)
	for alg, v := range member[object](r, o, "hashes", true) {
		s, ok := v.(string)
		if _, err := hex.DecodeString(s); !ok || err != nil {
			r.fail("a hash is not hexadecimal")
		}
		out[alg] = s
	}
	return out
}

// check compares data with all hashes. An unknown algorithm fails.
func (h Hashes) check(what string, data []byte) error {
	for alg, want := range h {
		var got []byte
		switch alg {
		case "sha256":
			sum := sha256.Sum256(data)
			got = sum[:]
		case "sha512":
			sum := sha512.Sum512(data)
			got = sum[:]
		default:
			return fmt.Errorf("%s is %w: hash %q is not known here", what, ErrMismatch, alg)
		}
		if hex.EncodeToString(got) != strings.ToLower(want) {
			return fmt.Errorf("%s is %w: it has the %s hash %x, want %s", what, ErrMismatch, alg, got[:6], short(want))
		}
	}
	return nil
}

// Meta says which version of a role's metadata counts.
type Meta struct {
	Version int64
	Length  int64  // bytes; 0: not said
	Hashes  Hashes // may be empty
}

func (m *Meta) check(d *document) error {
	if m.Length > 0 && int64(len(d.data)) != m.Length {
		return fmt.Errorf("the catalog's %s is %w: %d bytes, want %d", d.role, ErrMismatch, len(d.data), m.Length)
	}
	if err := m.Hashes.check("the catalog's "+d.role, d.data); err != nil {
		return err
	}
	if d.version != m.Version {
		return fmt.Errorf("the catalog's %s is %w: version %d, want %d", d.role, ErrMismatch, d.version, m.Version)
	}
	return nil
}

// limit returns how many bytes the metadata may have.
func (m *Meta) limit(most int64) int64 {
	if m.Length > 0 && m.Length < most {
		return m.Length
	}
	return most
}

func (r *reader) meta(o object) map[string]Meta {
	out := make(map[string]Meta)
	r.objects(o, "meta", func(name string, o object) {
		m := Meta{Version: r.integer(o, "version", 1), Hashes: r.hashes(o)}
		if _, ok := o["length"]; ok {
			m.Length = r.integer(o, "length", 0)
		}
		out[name] = m
	})
	return out
}

// Timestamp is timestamp metadata (section 4.6).
type Timestamp struct {
	document
	snapshot Meta
}

func parseTimestamp(data []byte) (*Timestamp, error) {
	d, err := parse(RoleTimestamp, RoleTimestamp, data, MaxTimestamp)
	if err != nil {
		return nil, err
	}
	r := &reader{}
	m, ok := r.meta(d.signed)[RoleSnapshot+".json"]
	if !ok {
		r.fail("snapshot.json is missing")
	}
	if r.err != nil {
		return nil, malformed(RoleTimestamp, r.err)
	}
	return &Timestamp{document: *d, snapshot: m}, nil
}

// Snapshot is snapshot metadata (section 4.4).
type Snapshot struct {
	document
	meta map[string]Meta
}

func parseSnapshot(data []byte) (*Snapshot, error) {
	d, err := parse(RoleSnapshot, RoleSnapshot, data, MaxSnapshot)
	if err != nil {
		return nil, err
	}
	r := &reader{}
	s := &Snapshot{document: *d, meta: r.meta(d.signed)}
	if r.err != nil {
		return nil, malformed(RoleSnapshot, r.err)
	}
	return s, nil
}

// Meta returns what the snapshot says about a role: its name, without
// ".json".
func (s *Snapshot) Meta(role string) (Meta, bool) {
	m, ok := s.meta[role+".json"]
	return m, ok
}

// Target is a file that a role lists.
type Target struct {
	Length int64
	Hashes Hashes
}

// Check compares data with the target's length and all of its hashes.
func (t *Target) Check(what string, data []byte) error {
	if int64(len(data)) != t.Length {
		return fmt.Errorf("%s is %w: %d bytes, want %d", what, ErrMismatch, len(data), t.Length)
	}
	return t.Hashes.check(what, data)
}

// Delegation is a role that a targets role trusts with some names.
type Delegation struct {
	Name        string
	Paths       []string // patterns, element by element as path.Match
	Prefixes    []string // of the SHA-256 of names, in hexadecimal
	Terminating bool

	role role
}

// KeyIDs returns the ids of the role's keys, and how many of them have to sign.
func (d *Delegation) KeyIDs() (ids []string, threshold int) {
	return d.role.ids, int(d.role.threshold)
}

// Targets is metadata of the targets role or a delegated one (section 4.5).
type Targets struct {
	document
	Targets     map[string]Target // must not be changed
	Delegations []Delegation      // in order of trust; must not be changed
}

func parseTargets(name string, data []byte) (*Targets, error) {
	d, err := parse(name, RoleTargets, data, MaxTargets)
	if err != nil {
		return nil, err
	}
	r := &reader{}
	t := &Targets{document: *d, Targets: make(map[string]Target)}
	r.objects(d.signed, "targets", func(name string, o object) {
		f := Target{Length: r.integer(o, "length", 0), Hashes: r.hashes(o)}
		if len(f.Hashes) == 0 {
			r.fail("target %q has no hash", name)
		}
		t.Targets[name] = f
	})
	if dels := member[object](r, d.signed, "delegations", true); dels != nil && r.err == nil {
		t.delegations(r, dels)
	}
	if r.err != nil {
		return nil, malformed(name, r.err)
	}
	return t, nil
}

func (t *Targets) delegations(r *reader, o object) {
	keys := r.keys(o)
	seen := map[string]bool{RoleRoot: true, RoleTimestamp: true, RoleSnapshot: true, RoleTargets: true}
	for _, v := range member[[]any](r, o, "roles", false) {
		m, ok := v.(object)
		if !ok {
			r.fail("a delegation is no object")
			return
		}
		d := Delegation{
			Name: r.str(m, "name"), Paths: r.strings(m, "paths", true), Prefixes: r.strings(m, "path_hash_prefixes", true),
			Terminating: member[bool](r, m, "terminating", false), role: r.role(m, keys),
		}
		if _, paths := m["paths"]; paths == (m["path_hash_prefixes"] != nil) {
			r.fail("delegation %q has not one of paths and path_hash_prefixes", d.Name)
		}
		// The name becomes part of a path in the store.
		if seen[d.Name] || !storepath.ValidElement(d.Name) {
			r.fail("delegation %.100q: the name stands twice or is not allowed", d.Name)
		}
		seen[d.Name] = true
		t.Delegations = append(t.Delegations, d)
	}
}

func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
