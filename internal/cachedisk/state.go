package cachedisk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/strictjson"
)

// StateName is the name of the state's file in a cache folder.
const StateName = "state.json"

// StateFormat is the value of a State's "format".
const StateFormat = "inetboot-cache-state/1"

// MaxState bounds the state's file, in bytes.
const MaxState = 64 << 10

// ErrState is wrapped by errors about the contents of a state file.
var ErrState = errors.New("invalid cache state")

// State is what a machine remembers in its cache from one boot to the next.
// Whoever has had the disk may have written it, so it is a hint: nothing in
// it replaces a check. The zero value is an empty state.
type State struct {
	Format   string     `json:"format"`
	Mirrors  []Mirror   `json:"mirrors,omitempty"`  // best first
	Complete []Complete `json:"complete,omitempty"` // newest first
	Entry    string     `json:"entry,omitempty"`    // id of the menu entry that was booted last
	Catalog  uint64     `json:"catalog,omitempty"`  // newest version of the catalog that was seen

	// Nameservers are those of the last network: a machine that starts with
	// the cable out has no others to find its mirrors with when it is in again.
	Nameservers []netip.Addr `json:"nameservers,omitempty"`
}

// Mirror is a base URL and how far away it was.
type Mirror struct {
	URL      string    `json:"url"`
	RTT      float64   `json:"rtt,omitempty"` // milliseconds; 0: not measured
	Measured time.Time `json:"measured,omitzero"`
}

// Complete is an image that the cache has whole: kernel, initrd, indexes and
// each block of its root.
type Complete struct {
	Manifest digest.SHA256 `json:"manifest"`
	Time     time.Time     `json:"time"`
}

const (
	maxMirrors  = 64
	maxComplete = 128
	maxURL      = 512
	maxEntry    = 200
	maxServers  = 8
)

// LoadState reads the state of a cache folder. If there is none, or it is damaged,
// the state is the zero value; err is for the log, and nil if there is none.
func LoadState(folder string) (State, error) {
	b, err := readState(filepath.Join(folder, StateName))
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("read the cache's state: %w", err)
	}
	return ParseState(b)
}

func readState(name string) ([]byte, error) {
	// A link would lead out of the disk, and a pipe would be waited for.
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a file", ErrState, name)
	}
	return io.ReadAll(io.LimitReader(f, MaxState+1))
}

// ParseState reads a state file. Errors wrap ErrState; the state is then the
// zero value.
func ParseState(data []byte) (State, error) {
	var s State
	err := strictjson.Unmarshal(data, MaxState, &s)
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrState, err)
	}
	return s, nil
}

func (s *State) check() error {
	if s.Format != StateFormat {
		return fmt.Errorf("format %.40q, want %q", s.Format, StateFormat)
	}
	if len(s.Mirrors) > maxMirrors || len(s.Complete) > maxComplete || len(s.Entry) > maxEntry {
		return fmt.Errorf("%d mirrors, %d complete images, entry of %d bytes: at most %d, %d, %d are allowed",
			len(s.Mirrors), len(s.Complete), len(s.Entry), maxMirrors, maxComplete, maxEntry)
	}
	if len(s.Nameservers) > maxServers {
		return fmt.Errorf("%d name servers: at most %d are allowed", len(s.Nameservers), maxServers)
	}
	for _, a := range s.Nameservers {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
			return fmt.Errorf("name server %q is not one's address", a)
		}
	}
	for _, m := range s.Mirrors {
		u, err := url.Parse(m.URL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || len(m.URL) > maxURL {
			return fmt.Errorf("mirror %.80q is not an http or https URL of at most %d bytes", m.URL, maxURL)
		}
		if m.RTT < 0 || m.RTT > 3_600_000 {
			return fmt.Errorf("mirror %s: round trip of %g ms", m.URL, m.RTT)
		}
	}
	for _, c := range s.Complete {
		if c.Manifest.IsZero() {
			return errors.New("a complete image without a manifest")
		}
	}
	return nil
}

// Save writes the state into a cache folder so that after a loss of power there
// is the old or the new one; on FAT, which cannot replace a file in one step,
// at worst none. What is over the limits of the format is left out: the last
// mirrors and images.
func (s State) Save(folder string) error {
	r, err := os.OpenRoot(folder)
	if err != nil {
		return fmt.Errorf("save the cache's state: %w", err)
	}
	defer r.Close()
	return s.SaveIn(r)
}

// SaveIn is Save for a folder that is open already: who serves the root
// filesystem has no paths any more.
func (s State) SaveIn(folder *os.Root) error {
	s.Format = StateFormat
	s.Mirrors = s.Mirrors[:min(len(s.Mirrors), maxMirrors)]
	s.Complete = s.Complete[:min(len(s.Complete), maxComplete)]
	s.Nameservers = s.Nameservers[:min(len(s.Nameservers), maxServers)]
	b, err := json.Marshal(s)
	if err == nil {
		_, err = ParseState(b)
	}
	if err != nil {
		return fmt.Errorf("save the cache's state: %w", err)
	}
	if err := replace(folder, StateName, append(b, '\n')); err != nil {
		return fmt.Errorf("save the cache's state: %w", err)
	}
	return nil
}

// replace writes a file under another name, brings it to the disk, gives it
// its name and brings that to the disk.
func replace(folder *os.Root, name string, data []byte) error {
	temp := name + ".new"
	if err := folder.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := folder.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = folder.Rename(temp, name)
	}
	if err != nil {
		folder.Remove(temp)
		return err
	}
	dir, err := folder.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
