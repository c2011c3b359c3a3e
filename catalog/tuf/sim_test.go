package tuf_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/storepath"
)

// epoch is when the repositories of these tests are used.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// simKey returns the key with a number.
func simKey(n int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(n), byte(n >> 8)}, ed25519.SeedSize/2))
}

func keyID(n int) string { return publish.KeyID(simKey(n).Public().(ed25519.PublicKey)) }

// sim is a repository whose publisher can do everything that is wrong.
type sim struct {
	root      *metadata.Metadata[metadata.RootType]
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	targets   map[string]*metadata.Metadata[metadata.TargetsType] // by role

	signers map[string][]int // numbers of the keys that sign for a role
	hashes  bool             // timestamp and snapshot have hashes and lengths
	next    int              // number of a new key

	files map[string][]byte // what the repository serves
	asked []string          // paths, without "catalog/"
}

// newSim returns a repository with version 1 of everything.
func newSim() *sim {
	far := epoch.AddDate(1, 0, 0)
	s := &sim{
		root: metadata.Root(far), timestamp: metadata.Timestamp(far), snapshot: metadata.Snapshot(far),
		targets: map[string]*metadata.Metadata[metadata.TargetsType]{tuf.RoleTargets: metadata.Targets(far)},
		signers: make(map[string][]int), files: make(map[string][]byte), next: 100,
	}
	s.root.Signed.Version, s.timestamp.Signed.Version, s.snapshot.Signed.Version, s.targets[tuf.RoleTargets].Signed.Version = 0, 0, 0, 0
	for i, role := range publish.TopRoles() {
		s.addKey(role, i+1)
		s.signers[role] = []int{i + 1}
	}
	s.publish(tuf.RoleRoot, tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
	return s
}

// addKey adds a key to a top-level role, without letting it sign.
func (s *sim) addKey(role string, n int) {
	if err := s.root.Signed.AddKey(publish.Key(simKey(n).Public().(ed25519.PublicKey)), role); err != nil {
		panic(err)
	}
}

// setKeys gives a top-level role its keys, threshold and signers.
func (s *sim) setKeys(role string, keys []int, threshold int, sigs []int) {
	r := s.root.Signed.Roles[role]
	r.KeyIDs, r.Threshold = nil, threshold
	for _, n := range keys {
		s.addKey(role, n)
	}
	s.signers[role] = sigs
}

// rotate gives a top-level role one new key.
func (s *sim) rotate(role string) {
	s.next++
	old := s.signers[role]
	s.setKeys(role, []int{s.next}, 1, []int{s.next})
	if role == tuf.RoleRoot {
		s.signers[role] = append(s.signers[role], old...)
	}
}

// delegate adds a role with a key of its own.
func (s *sim) delegate(from, name string, paths []string, terminating bool) {
	far := epoch.AddDate(1, 0, 0)
	if s.targets[name] == nil {
		s.targets[name] = metadata.Targets(far)
		s.targets[name].Signed.Version = 0
	}
	s.next++
	key := publish.Key(simKey(s.next).Public().(ed25519.PublicKey))
	d := s.targets[from].Signed.Delegations
	if d == nil {
		d = &metadata.Delegations{Keys: make(map[string]*metadata.Key)}
		s.targets[from].Signed.Delegations = d
	}
	d.Keys[keyID(s.next)] = key
	d.Roles = append(d.Roles, metadata.DelegatedRole{Name: name, KeyIDs: []string{keyID(s.next)}, Threshold: 1, Paths: paths, Terminating: terminating})
	s.signers[name] = append(s.signers[name], s.next)
}

// add lists a target.
func (s *sim) add(role, name, content string) {
	f, err := metadata.TargetFile().FromBytes(name, []byte(content), "sha256")
	if err != nil {
		panic(err)
	}
	s.targets[role].Signed.Targets[name] = f
}

// keySigner is one of sigstore's signers.
func keySigner(n int) signature.Signer {
	s, err := signature.LoadED25519Signer(simKey(n))
	if err != nil {
		panic(err)
	}
	return s
}

func signAll[T metadata.Roles](m *metadata.Metadata[T], keys []int) []byte {
	m.ClearSignatures()
	for _, n := range keys {
		if _, err := m.Sign(keySigner(n)); err != nil {
			panic(err)
		}
	}
	data, err := m.ToBytes(false)
	if err != nil {
		panic(err)
	}
	return data
}

func (s *sim) meta(version int64, data []byte) *metadata.MetaFiles {
	m := &metadata.MetaFiles{Version: version}
	if s.hashes {
		f, err := metadata.TargetFile().FromBytes("", data, "sha256")
		if err != nil {
			panic(err)
		}
		m.Length, m.Hashes = f.Length, f.Hashes
	}
	return m
}

// publish signs the next version of the roles, in the order given.
func (s *sim) publish(roles ...string) {
	for _, role := range roles {
		switch role {
		case tuf.RoleRoot:
			s.root.Signed.Version++
		case tuf.RoleTimestamp:
			s.timestamp.Signed.Version++
		case tuf.RoleSnapshot:
			s.snapshot.Signed.Version++
		default:
			s.targets[role].Signed.Version++
		}
		s.sign(role)
	}
}

// sign signs a role as it is and serves it.
func (s *sim) sign(role string) {
	switch role {
	case tuf.RoleRoot:
		s.files[storepath.RoleMetadata(role, s.root.Signed.Version)] = signAll(s.root, s.signers[role])
	case tuf.RoleTimestamp:
		s.files[storepath.Timestamp] = signAll(s.timestamp, s.signers[role])
	case tuf.RoleSnapshot:
		data := signAll(s.snapshot, s.signers[role])
		s.files[storepath.RoleMetadata(role, s.snapshot.Signed.Version)] = data
		s.timestamp.Signed.Meta["snapshot.json"] = s.meta(s.snapshot.Signed.Version, data)
	default:
		m := s.targets[role]
		data := signAll(m, s.signers[role])
		s.files[storepath.RoleMetadata(role, m.Signed.Version)] = data
		s.snapshot.Signed.Meta[role+".json"] = s.meta(m.Signed.Version, data)
	}
}

// all publishes a new version of everything.
func (s *sim) all() {
	s.publish(tuf.RoleRoot)
	for name := range s.targets {
		s.publish(name)
	}
	s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
}

// remove takes away all versions of a role's metadata.
func (s *sim) remove(role string) {
	maps.DeleteFunc(s.files, func(p string, _ []byte) bool {
		have, _, _ := storepath.ParseRoleMetadata(p)
		return have == role || role == tuf.RoleTimestamp && p == storepath.Timestamp
	})
}

// edit changes a file that is served, without signing it anew.
func (s *sim) edit(path string, f func(doc map[string]any)) {
	var doc map[string]any
	if err := json.Unmarshal(s.files[path], &doc); err != nil {
		panic(err)
	}
	f(doc)
	data, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	s.files[path] = data
}

// Read implements tuf.Source.
func (s *sim) Read(_ context.Context, path string, _ []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	s.asked = append(s.asked, strings.TrimPrefix(path, "catalog/"))
	data, ok := s.files[path]
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are allowed", path, len(data), limit)
	}
	return data, accept(data)
}

// memory is a tuf.Source of what a client has kept.
type memory map[string][]byte

func (m memory) Read(_ context.Context, path string, _ []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	data, ok := m[path]
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has %d bytes", path, len(data))
	}
	return data, accept(data)
}

// layered reads versioned files from what a client has kept, if they are right
// there, as preboot's cache does.
type layered struct {
	kept memory
	from tuf.Source
}

func (l layered) Read(ctx context.Context, path string, buf []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	if storepath.Versioned(path) {
		if data, err := l.kept.Read(ctx, path, buf, limit, accept); err == nil {
			return data, nil
		}
	}
	return l.from.Read(ctx, path, buf, limit, accept)
}

// client is one that keeps what it has verified from one update to the next,
// as a machine with a cache does.
type client struct {
	anchor []byte
	kept   memory
	now    time.Time
	set    *tuf.Trusted // of the last update that was good
}

func newClient(s *sim) *client {
	return &client{anchor: s.files[storepath.RoleMetadata(tuf.RoleRoot, 1)], kept: make(memory), now: epoch}
}

// refresh updates, and keeps what was verified even if something is wrong.
func (c *client) refresh(s tuf.Source) error {
	anchor, err := tuf.NewAnchor(c.anchor)
	if err != nil {
		return err
	}
	ctx := context.Background()
	floor, err := tuf.Floor(ctx, anchor, c.kept)
	if err != nil && floor == nil {
		floor = nil // nothing has been kept
	}
	c.set, err = tuf.Update(ctx, anchor, layered{c.kept, s}, tuf.Options{Now: c.now, Floor: floor})
	seen := c.set
	if err != nil {
		seen = tuf.Seen(err)
	}
	if seen != nil {
		for _, f := range seen.Files() {
			c.kept[f.Path] = f.Data
		}
	}
	return err
}

// lookup finds a target and keeps the roles that were read for it.
func (c *client) lookup(name string) (tuf.Target, string, error) {
	t, role, err := c.set.Lookup(context.Background(), name)
	for _, f := range c.set.Files() {
		c.kept[f.Path] = f.Data
	}
	return t, role, err
}

// version returns the newest version of a role that is trusted, 0 for none.
func (c *client) version(t testing.TB, role string) int64 {
	t.Helper()
	var newest int64
	switch role {
	case tuf.RoleTimestamp:
		newest = versionOf(c.kept[storepath.Timestamp])
	case tuf.RoleRoot:
		newest = versionOf(c.anchor)
		for c.kept[storepath.RoleMetadata(role, newest+1)] != nil {
			newest++
		}
	case tuf.RoleSnapshot:
		var ts struct {
			Signed struct {
				Meta map[string]struct{ Version int64 }
			}
		}
		if data := c.kept[storepath.Timestamp]; data != nil {
			if err := json.Unmarshal(data, &ts); err != nil {
				t.Fatal(err)
			}
		}
		v := ts.Signed.Meta["snapshot.json"].Version
		if c.kept[storepath.RoleMetadata(role, v)] != nil {
			newest = v
		}
	default:
		for path := range c.kept {
			if name, v, ok := storepath.ParseRoleMetadata(path); ok && name == role {
				newest = max(newest, v)
			}
		}
	}
	return newest
}

func versionOf(data []byte) int64 {
	var doc struct{ Signed struct{ Version int64 } }
	if data == nil || json.Unmarshal(data, &doc) != nil {
		return 0
	}
	return doc.Signed.Version
}

// asked returns what was asked for since the last call, such as "2.root".
func (s *sim) requests() []string {
	var out []string
	for _, a := range s.asked {
		out = append(out, strings.TrimSuffix(a, ".json"))
	}
	s.asked = nil
	return out
}

type publicKey = ed25519.PublicKey

func public(n int) publicKey { return simKey(n).Public().(ed25519.PublicKey) }

func sign(n int, message []byte) []byte { return ed25519.Sign(simKey(n), message) }
