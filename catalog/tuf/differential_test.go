package tuf_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/storepath"
)

// differences lists by name where this client and go-tuf's updater mean to
// differ, and who refuses then. A verdict that differs counts as right only if
// the repository has been marked with such a name.
func differences() map[string]refuser {
	return map[string]refuser{
		// go-tuf takes what is missing or null for the zero value, and does not look at these.
		"spec_version other than 1.x":     ours,
		"version below 1":                 ours,
		"threshold below 1":               ours, // go-tuf refuses what needs the threshold
		"expires in another form":         ours,
		"consistent_snapshot is not true": ours,
		"null or nothing for an object":   ours,
		"signature without a key id":      ours,
		// go-tuf reads members whose names differ in case.
		"member name in another case": ours,
		// A name becomes part of a path.
		"role name that cannot stand in a path": ours,
		// Section 4.5 wants exactly one, and names that stand once.
		"delegation with both or none of paths and path_hash_prefixes": ours,
		"delegation that stands twice":                                 ours,
		// Section 5.6.7: each delegator has to vouch for the role.
		"diamond: a role that another delegator does not vouch for": ours,
		// Section 5.4.4: the expiry has to be later than the update.
		"expiry in the second of the update": ours,
		// This client ignores keys that it does not know the type of.
		"key of a role that is not ed25519": theirs,
		// go-tuf takes the snapshot that it has kept if its version is right; this
		// client compares it with what the timestamp announces, too.
		"version that was published twice": either,
	}
}

type refuser int

const (
	ours refuser = iota
	theirs
	either
)

// fetcher serves a sim to go-tuf's updater.
type fetcher struct{ s *sim }

func (f fetcher) DownloadFile(url string, limit int64, _ time.Duration) ([]byte, error) {
	path := "catalog/" + url[strings.LastIndexByte(url, '/')+1:]
	data, ok := f.s.files[path]
	if !ok {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: 404, URL: url}
	}
	if int64(len(data)) > limit {
		return nil, &metadata.ErrDownloadLengthMismatch{Msg: url}
	}
	return data, nil
}

// verdict is what a client makes of a repository.
type verdict struct {
	refused bool
	roles   string            // versions that it ended with
	targets map[string]string // name → hash, or "" if it is not found
	err     error
}

// peer is go-tuf's updater with a folder of its own.
type peer struct {
	anchor []byte
	dir    string
}

func (p *peer) update(s *sim, now time.Time, names []string) (v verdict) {
	// A panic is a refusal: some malformed metadata makes go-tuf fall.
	defer func() {
		if r := recover(); r != nil {
			v = verdict{refused: true, err: fmt.Errorf("panic: %v", r)}
		}
	}()
	anchor := p.anchor
	if kept, err := os.ReadFile(filepath.Join(p.dir, "root.json")); err == nil {
		anchor = kept
	}
	cfg, err := config.New("http://repository/", anchor)
	if err != nil {
		return verdict{refused: true, err: err}
	}
	cfg.Fetcher, cfg.LocalMetadataDir, cfg.LocalTargetsDir = fetcher{s}, p.dir, p.dir
	cfg.RootMaxLength, cfg.TimestampMaxLength, cfg.SnapshotMaxLength, cfg.TargetsMaxLength = tuf.MaxRoot, tuf.MaxTimestamp, tuf.MaxSnapshot, tuf.MaxTargets
	cfg.MaxDelegations, cfg.MaxRootRotations = tuf.MaxVisited, tuf.MaxRotations
	up, err := updater.New(cfg)
	if err == nil {
		up.UnsafeSetRefTime(now)
		err = up.Refresh()
	}
	if err != nil {
		return verdict{refused: true, err: err}
	}
	set := up.GetTrustedMetadataSet()
	v = verdict{targets: make(map[string]string)}
	v.roles = fmt.Sprint(set.Root.Signed.Version, set.Timestamp.Signed.Version, set.Snapshot.Signed.Version, set.Targets[tuf.RoleTargets].Signed.Version)
	for _, name := range names {
		v.targets[name] = p.find(up, name)
	}
	return v
}

func (p *peer) find(up *updater.Updater, name string) (hash string) {
	defer func() {
		if recover() != nil {
			hash = ""
		}
	}()
	f, err := up.GetTargetInfo(name)
	if err != nil {
		return ""
	}
	return fmt.Sprint(f.Length, hex.EncodeToString(f.Hashes["sha256"]))
}

// update is the same for our client.
func (c *client) update(s *sim, now time.Time, names []string) verdict {
	c.now = now
	if err := c.refresh(s); err != nil {
		return verdict{refused: true, err: err}
	}
	v := verdict{targets: make(map[string]string)}
	v.roles = fmt.Sprint(c.set.Root().Version(), c.set.Timestamp().Version(), c.set.Snapshot().Version(), c.set.Targets().Version())
	for _, name := range names {
		v.targets[name] = ""
		if f, _, err := c.lookup(name); err == nil {
			v.targets[name] = fmt.Sprint(f.Length, f.Hashes["sha256"])
		}
	}
	return v
}

// scenario is a repository's life, and what makes verdicts differ on purpose.
type scenario struct {
	*sim
	rnd   *rand.Rand
	log   []string
	marks map[string]bool // names of differences
}

func (s *scenario) note(format string, args ...any) {
	s.log = append(s.log, fmt.Sprintf(format, args...))
}
func (s *scenario) mark(name string) { s.marks[name] = true }

func pick[T any](s *scenario, list ...T) T { return list[s.rnd.IntN(len(list))] }

// role returns one of the top-level roles or a delegated one.
func (s *scenario) role() string {
	all := []string{tuf.RoleRoot, tuf.RoleTimestamp, tuf.RoleSnapshot}
	return pick(s, append(all, slices.Sorted(maps.Keys(s.targets))...)...)
}

// file returns the path of one of the files that are served.
func (s *scenario) file() string { return pick(s, slices.Sorted(maps.Keys(s.files))...) }

// newest returns the path of the newest metadata of a role.
func (s *scenario) newest(role string) string {
	switch role {
	case tuf.RoleTimestamp:
		return storepath.Timestamp
	case tuf.RoleRoot:
		return storepath.RoleMetadata(role, s.root.Signed.Version)
	case tuf.RoleSnapshot:
		return storepath.RoleMetadata(role, s.snapshot.Signed.Version)
	}
	return storepath.RoleMetadata(role, s.targets[role].Signed.Version)
}

func (s *scenario) publishAll() {
	for _, name := range slices.Sorted(maps.Keys(s.targets)) {
		s.publish(name)
	}
	s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
}

// act does one thing that publishers, or those in between, may do.
func (s *scenario) act() {
	top := pick(s, tuf.RoleRoot, tuf.RoleTimestamp, tuf.RoleSnapshot, tuf.RoleTargets)
	switch s.rnd.IntN(25) {
	case 0:
		s.note("publish all")
		s.publishAll()
	case 1:
		s.note("new root")
		s.publish(tuf.RoleRoot)
	case 2:
		s.note("new timestamp")
		s.publish(tuf.RoleTimestamp)
	case 3:
		role := pick(s, slices.Sorted(maps.Keys(s.targets))...)
		name := pick(s, names()...)
		s.note("%s lists %s", role, name)
		s.add(role, name, fmt.Sprint(s.rnd.Uint32()))
		s.publishAll()
	case 4:
		s.note("rotate %s", top)
		s.rotate(top)
		s.publish(tuf.RoleRoot)
		s.publishAll()
	case 5:
		s.note("rotate %s and sign nothing with it", top)
		s.rotate(top)
		s.publish(tuf.RoleRoot)
	case 6:
		n := 1 + s.rnd.IntN(4)
		var keys, sigs []int
		for range n {
			s.next++
			keys = append(keys, s.next)
			if s.rnd.IntN(3) > 0 {
				sigs = append(sigs, s.next)
			}
		}
		threshold := 1 + s.rnd.IntN(n)
		s.note("%s: %d of %d keys, %d sign", top, threshold, n, len(sigs))
		if top == tuf.RoleRoot {
			sigs = append(sigs, s.signers[top]...)
		}
		s.setKeys(top, keys, threshold, sigs)
		s.publish(tuf.RoleRoot)
		s.publishAll()
	case 7:
		s.delegations()
	case 8:
		role := pick(s, slices.Sorted(maps.Keys(s.targets))...)
		s.note("%s signs no longer", role)
		s.signers[role] = nil
		s.publishAll()
	case 9:
		s.expire(s.role())
	case 10:
		s.note("roll back %s", top)
		s.back(top)
	case 11:
		s.hashes = !s.hashes
		s.note("hashes %t", s.hashes)
		s.publishAll()
	case 12:
		path := s.file()
		s.note("remove %s", path)
		delete(s.files, path)
	case 13:
		a, b := s.file(), s.file()
		s.note("serve %s as %s", b, a)
		s.files[a] = s.files[b]
	case 14, 15, 16:
		s.flip(s.file())
	case 17, 18, 19:
		s.member(s.newest(s.role()))
	case 20:
		s.signatures(s.newest(s.role()))
	case 21:
		if len(s.snapshot.Signed.Meta) > 0 {
			delete(s.snapshot.Signed.Meta, pick(s, slices.Sorted(maps.Keys(s.snapshot.Signed.Meta))...))
		}
		s.note("the snapshot forgets a role")
		s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
	case 22:
		s.note("new names for keys of %s", top)
		s.rename(top)
	case 23:
		s.note("white space and other members")
		s.root.Signed.UnrecognizedFields = map[string]any{"x": []any{"\u00e9\"\\<>&", float64(s.rnd.IntN(9)), nil, true, map[string]any{"b": "", "a": "\u2028"}}}
		s.targets[tuf.RoleTargets].Signed.UnrecognizedFields = map[string]any{"y\u00e9": "z"}
		s.publish(tuf.RoleRoot)
		s.publishAll()
		path := s.newest(s.role())
		var b bytes.Buffer
		if json.Indent(&b, s.files[path], "", "\t") == nil && !s.hashes {
			s.files[path] = b.Bytes()
		}
	case 24:
		s.signed(s.role())
	}
}

func names() []string {
	return []string{"menu.json", "images/a/1/amd64.json", "images/b/1/amd64.json", "images/lab-x/1/amd64.json", "images/lab-x/2/arm64.json", "menus/lab.json", "x"}
}

// delegations adds a delegation, perhaps with a role that others name, too.
func (s *scenario) delegations() {
	from := pick(s, slices.Sorted(maps.Keys(s.targets))...)
	to := pick(s, "lab", "a", "b", "c", "d")
	paths := pick(s, []string{"*"}, []string{"images/*/*/*"}, []string{"images/lab-*/*/*", "menus/lab.json"}, []string{"images/[ab]/?/*.json"},
		[]string{"images/a/1/amd64.json"}, []string{"[", "x"}, []string{`images/\a/*/*`}, []string{"*/*"})
	dels := s.targets[from].Signed.Delegations
	if dels != nil && slices.ContainsFunc(dels.Roles, func(r metadata.DelegatedRole) bool { return r.Name == to }) {
		s.mark("delegation that stands twice")
	}
	if s.targets[to] != nil {
		s.mark("diamond: a role that another delegator does not vouch for")
	}
	end := s.rnd.IntN(4) == 0
	s.note("%s delegates %v to %s, terminating %t", from, paths, to, end)
	s.delegate(from, to, paths, end)
	if s.rnd.IntN(5) == 0 {
		s.note("without a signature")
		s.signers[to] = nil
	}
	name := pick(s, names()...)
	s.add(to, name, fmt.Sprint(to, s.rnd.Uint32()))
	if r := &s.targets[from].Signed.Delegations.Roles[len(s.targets[from].Signed.Delegations.Roles)-1]; s.rnd.IntN(12) == 0 {
		r.Threshold = s.rnd.IntN(3)
		if r.Threshold < 1 {
			s.mark("threshold below 1")
		}
		s.note("threshold %d", r.Threshold)
	}
	s.publishAll()
}

// expire lets a role expire around the time of the update.
func (s *scenario) expire(role string) {
	at := epoch.Add(time.Duration(s.rnd.IntN(5)-2) * time.Hour)
	if at.Equal(epoch) {
		s.mark("expiry in the second of the update")
	}
	s.note("%s expires at %s", role, at.Sub(epoch))
	switch role {
	case tuf.RoleRoot:
		s.root.Signed.Expires = at
		s.publish(role)
		return
	case tuf.RoleTimestamp:
		s.timestamp.Signed.Expires = at
	case tuf.RoleSnapshot:
		s.snapshot.Signed.Expires = at
	default:
		s.targets[role].Signed.Expires = at
	}
	s.publishAll()
}

// back gives a role an older version.
func (s *scenario) back(role string) {
	n := int64(1 + s.rnd.IntN(2))
	s.mark("version that was published twice")
	switch role {
	case tuf.RoleRoot:
		s.root.Signed.Version = max(1, s.root.Signed.Version-n)
		s.sign(role)
		return
	case tuf.RoleTimestamp:
		s.timestamp.Signed.Version = max(1, s.timestamp.Signed.Version-n)
		s.sign(role)
	case tuf.RoleSnapshot:
		s.snapshot.Signed.Version = max(1, s.snapshot.Signed.Version-n)
		s.sign(role)
		s.publish(tuf.RoleTimestamp)
	default:
		m := s.targets[role]
		m.Signed.Version = max(1, m.Signed.Version-n)
		s.sign(role)
		s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
	}
}

// flip changes one byte.
func (s *scenario) flip(path string) {
	data := bytes.Clone(s.files[path])
	if len(data) == 0 {
		return
	}
	i := s.rnd.IntN(len(data))
	switch s.rnd.IntN(5) {
	case 0:
		data = data[:i]
	case 1:
		data = append(data, pick(s, " ", "{}", "\x00", "\n")...)
	default:
		was := data[i]
		data[i] ^= 1 << s.rnd.IntN(8)
		if strings.EqualFold(string(was), string(data[i])) {
			s.mark("member name in another case")
		}
	}
	s.note("flip byte %d of %s", i, path)
	s.files[path] = data
}

// rename lists keys of a role under other ids.
func (s *scenario) rename(role string) {
	r := s.root.Signed.Roles[role]
	for i, id := range r.KeyIDs {
		other := *s.root.Signed.Keys[id]
		s.root.Signed.Keys["id-"+id[:8]] = &other
		if s.rnd.IntN(2) == 0 {
			r.KeyIDs = append(r.KeyIDs, "id-"+id[:8])
		} else {
			r.KeyIDs[i] = "id-" + id[:8]
		}
	}
	s.publish(tuf.RoleRoot)
	s.publishAll()
}

// signatures changes the list of signatures.
func (s *scenario) signatures(path string) {
	s.note("signatures of %s", path)
	if _, ok := s.files[path]; !ok || !json.Valid(s.files[path]) {
		return
	}
	s.edit(path, func(d map[string]any) {
		sigs, _ := d["signatures"].([]any)
		if len(sigs) == 0 {
			return
		}
		first, _ := sigs[0].(map[string]any)
		switch s.rnd.IntN(7) {
		case 0:
			d["signatures"] = append(sigs, sigs[0])
		case 1:
			d["signatures"] = append(sigs, map[string]any{"keyid": "unknown", "sig": "00"})
		case 2:
			first["sig"] = "zz"
		case 3:
			first["sig"] = ""
		case 4:
			first["sig"] = strings.ToUpper(fmt.Sprint(first["sig"]))
		case 5:
			delete(first, "keyid")
			s.mark("signature without a key id")
		case 6:
			d["signatures"] = []any{}
		}
	})
}

// member changes a member of the signed part, without a new signature.
func (s *scenario) member(path string) {
	if _, ok := s.files[path]; !ok || !json.Valid(s.files[path]) {
		return
	}
	s.edit(path, func(d map[string]any) {
		signed, _ := d["signed"].(map[string]any)
		if len(signed) == 0 {
			return
		}
		name := pick(s, slices.Sorted(maps.Keys(signed))...)
		s.note("member %s of %s", name, path)
		s.markMissing(name)
		switch s.rnd.IntN(4) {
		case 0:
			delete(signed, name)
		case 1:
			signed[name] = pick[any](s, nil, true, 1, -1, 1.5, "x", []any{}, map[string]any{})
		case 2:
			signed["new"] = 1
		case 3:
			d[name] = signed[name]
		}
	})
}

// raw signs a role's metadata after changing it as JSON: malformed metadata by
// somebody who has the keys.
func (s *scenario) signed(role string) {
	path := s.newest(role)
	var doc struct{ Signed map[string]any }
	dec := json.NewDecoder(bytes.NewReader(s.files[path]))
	dec.UseNumber()
	if dec.Decode(&doc) != nil || doc.Signed == nil {
		return
	}
	kind := s.rnd.IntN(13)
	d := doc.Signed
	switch kind {
	case 0:
		d["spec_version"] = pick(s, "2.0", "1", "1.0", "1.99.99", "")
		if v := fmt.Sprint(d["spec_version"]); !strings.HasPrefix(v, "1.") {
			s.mark("spec_version other than 1.x")
		}
	case 1:
		d["version"] = pick[any](s, 0, -1, 1<<40)
		s.mark("version below 1")
	case 2:
		d["expires"] = pick(s, "2027-01-01T00:00:00.5Z", "2027-01-01T02:00:00+02:00", "2027-01-01", "")
		s.mark("expires in another form")
	case 3:
		if role == tuf.RoleRoot {
			d["consistent_snapshot"] = pick[any](s, false, nil, "true")
			s.mark("consistent_snapshot is not true")
		}
	case 4:
		name := pick(s, slices.Sorted(maps.Keys(d))...)
		delete(d, name)
		s.markMissing(name)
		s.note("without %s", name)
	case 5:
		name := pick(s, slices.Sorted(maps.Keys(d))...)
		d[name] = nil
		s.markMissing(name)
		s.mark("null or nothing for an object")
		s.note("null %s", name)
	case 6:
		d["_type"] = pick(s, "root", "timestamp", "snapshot", "targets", "Root", "x")
	case 7:
		if role == tuf.RoleRoot {
			keys, _ := d["keys"].(map[string]any)
			for _, k := range keys {
				if k, ok := k.(map[string]any); ok {
					k["keytype"] = pick(s, "ecdsa", "rsa", "x")
					s.mark("key of a role that is not ed25519")
				}
				break
			}
		}
	case 8:
		if role == tuf.RoleRoot {
			roles, _ := d["roles"].(map[string]any)
			if len(roles) == 0 {
				break
			}
			if r, ok := roles[pick(s, slices.Sorted(maps.Keys(roles))...)].(map[string]any); ok {
				r["threshold"] = pick[any](s, 0, -1, 2, 1000, "1", nil)
				s.mark("threshold below 1")
			}
		}
	case 9:
		if meta, ok := d["meta"].(map[string]any); ok && len(meta) > 0 {
			m, _ := meta[pick(s, slices.Sorted(maps.Keys(meta))...)].(map[string]any)
			if m != nil {
				m["length"] = pick[any](s, 1, 1<<40, -1)
			}
		}
	case 10:
		if targets, ok := d["targets"].(map[string]any); ok {
			targets["x"] = pick[any](s, map[string]any{"length": 1, "hashes": map[string]any{}}, map[string]any{"length": 1},
				map[string]any{"length": 1, "hashes": map[string]any{"sha256": "zz"}}, map[string]any{"length": -1, "hashes": map[string]any{"sha256": "00"}}, nil)
		}
	case 11:
		if role != tuf.RoleRoot && role != tuf.RoleTimestamp && role != tuf.RoleSnapshot {
			role := pick[any](s,
				map[string]any{"name": "../x", "keyids": []any{}, "threshold": 1, "terminating": false, "paths": []any{"*"}},
				map[string]any{"name": "y", "keyids": []any{}, "threshold": 1, "terminating": false},
				map[string]any{"name": "y", "keyids": []any{}, "threshold": 1, "terminating": false, "path_hash_prefixes": []any{"0"}, "paths": []any{"*"}},
				map[string]any{"name": "targets", "keyids": []any{}, "threshold": 1, "terminating": false, "paths": []any{"*"}},
				map[string]any{"name": "y", "keyids": []any{"nobody"}, "threshold": 1, "terminating": false, "paths": []any{"nothing"}})
			d["delegations"] = map[string]any{"keys": map[string]any{}, "roles": []any{role}}
			s.mark("role name that cannot stand in a path")
			s.mark("delegation with both or none of paths and path_hash_prefixes")
		}
	case 12:
		d["version"] = json.Number(pick(s, "1e0", "1.0", "2.5", "99999999999999999999"))
		s.mark("version below 1")
	}
	s.note("%s signed in form %d", role, kind)
	s.mark("version that was published twice")
	payload, err := json.Marshal(d)
	if err != nil {
		return
	}
	s.files[path] = signRaw(payload, s.signers[role])
	s.after(role)
}

// markMissing marks what go-tuf takes for its zero value.
func (s *scenario) markMissing(name string) {
	switch name {
	case "spec_version":
		s.mark("spec_version other than 1.x")
	case "version":
		s.mark("version below 1")
	case "consistent_snapshot":
		s.mark("consistent_snapshot is not true")
	case "expires":
		s.mark("expires in another form")
	default:
		s.mark("null or nothing for an object")
	}
}

// after publishes what announces a role that was signed by hand.
func (s *scenario) after(role string) {
	data := s.files[s.newest(role)]
	switch role {
	case tuf.RoleRoot, tuf.RoleTimestamp:
	case tuf.RoleSnapshot:
		s.timestamp.Signed.Meta["snapshot.json"] = s.meta(s.snapshot.Signed.Version, data)
		s.publish(tuf.RoleTimestamp)
	default:
		s.snapshot.Signed.Meta[role+".json"] = s.meta(s.targets[role].Signed.Version, data)
		s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
	}
}

// TestDifferential runs this client and go-tuf's updater, each with what it
// has kept, through the same repositories.
func TestDifferential(t *testing.T) {
	n := 1200
	if testing.Short() {
		n = 300
	}
	if v, err := strconv.Atoi(os.Getenv("INETBOOT_TUF_SCENARIOS")); err == nil {
		n = v
	}
	dir := t.TempDir()
	var mu sync.Mutex
	used := make(map[string]int)
	accepted, refusedN, updates := 0, 0, 0
	work := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range work {
				r := runScenario(t, uint64(i), filepath.Join(dir, fmt.Sprint(i)))
				mu.Lock()
				accepted, refusedN, updates = accepted+r.accepted, refusedN+r.refused, updates+r.accepted+r.refused
				for _, d := range r.differences {
					used[d]++
				}
				mu.Unlock()
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
	t.Logf("%d repositories, %d updates: %d accepted, %d refused by both or on purpose by one; differences on purpose: %v", n, updates, accepted, refusedN, used)
	if accepted < updates/5 || refusedN < updates/5 {
		t.Errorf("of %d updates %d were accepted and %d refused: the repositories test little", updates, accepted, refusedN)
	}
}

type outcome struct {
	accepted, refused int
	differences       []string
}

func runScenario(t *testing.T, seed uint64, dir string) (out outcome) {
	s := &scenario{sim: newSim(), rnd: rand.New(rand.NewPCG(seed, 1)), marks: make(map[string]bool)}
	s.hashes = s.rnd.IntN(2) == 0
	s.add(tuf.RoleTargets, "menu.json", "menu")
	s.publishAll()
	c := newClient(s.sim)
	p := &peer{anchor: c.anchor, dir: dir}
	defer os.RemoveAll(dir)
	for range 1 + s.rnd.IntN(4) {
		for range 1 + s.rnd.IntN(3) {
			s.act()
		}
		s.note("update")
		ours, theirs := c.update(s.sim, epoch, names()), p.update(s.sim, epoch, names())
		if ours.refused {
			out.refused++
		} else {
			out.accepted++
		}
		if why := compare(ours, theirs); why != "" {
			d := s.intended(ours, theirs)
			if d == "" {
				t.Errorf("scenario %d: %s\nours: %+v\ngo-tuf: %+v\n%s", seed, why, ours, theirs, strings.Join(s.log, "\n"))
				return out
			}
			out.differences = append(out.differences, d)
			return out // from here on the two have kept different things
		}
	}
	return out
}

// compare says how two verdicts differ, "" if they do not.
func compare(a, b verdict) string {
	switch {
	case a.refused != b.refused:
		return "one refuses what the other accepts"
	case a.roles != b.roles:
		return "other versions"
	case !maps.Equal(a.targets, b.targets):
		return "other targets"
	}
	return ""
}

// intended returns the difference that explains the verdicts, "" if none does.
func (s *scenario) intended(a, b verdict) string {
	for _, name := range slices.Sorted(maps.Keys(s.marks)) {
		who, ok := differences()[name]
		if !ok {
			return ""
		}
		if who == either || !a.refused && !b.refused || (who == ours) == a.refused {
			return name
		}
	}
	return ""
}

// signRaw signs a payload that is JSON, with its canonical form.
func signRaw(payload []byte, keys []int) []byte {
	return tuf.SignForTest(payload, func(canonical []byte) []map[string]string {
		var sigs []map[string]string
		for _, n := range keys {
			sigs = append(sigs, map[string]string{"keyid": keyID(n), "sig": hex.EncodeToString(sign(n, canonical))})
		}
		return sigs
	})
}
