package pack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/strictjson"
)

// Format is the value of a Report's "format".
const Format = "inetboot-boot/1"

// MaxReport bounds a report, in bytes.
const MaxReport = 1 << 20

const (
	maxBrackets  = 20_000 // all arrays and objects
	maxFiles     = 16
	maxStages    = 64
	maxStageName = 40
	maxUnix      = 1 << 52 // milliseconds
)

// ErrReport is wrapped by every error about a report's contents.
var ErrReport = errors.New("invalid boot report")

// Report is what a machine tells about one boot.
type Report struct {
	Format  string          `json:"format"`
	BootID  string          `json:"boot_id"` // as in the handoff
	Client  string          `json:"client"`  // MAC address of the link, as in the handoff
	Image   handoff.Image   `json:"image"`
	Files   []string        `json:"files"`  // names of the root's files, in the order of the manifest
	Stages  []handoff.Stage `json:"stages"` // in the order of time
	Origins Origins         `json:"origins"`
	Trace   Trace           `json:"trace"`
}

// Origins says where the blocks came from that were read until the boot was
// over.
type Origins struct {
	Memory Count `json:"memory"` // were there already
	Disk   Count `json:"disk"`   // from the cache on a disk
	Pack   Count `json:"pack"`
	Demand Count `json:"demand"` // fetched while a reader waited
	Ahead  Count `json:"ahead"`  // fetched ahead of a sequential reader
	Fill   Count `json:"fill"`   // fetched by the background fill
}

// Count is a number of blocks.
type Count struct {
	Blocks int64 `json:"blocks"`
	Bytes  int64 `json:"bytes"` // plain
	Stored int64 `json:"stored,omitempty"`
}

// Trace is the first accesses of a boot, in their order. In JSON each is an
// array of file, block and milliseconds.
type Trace []Access

// MarshalJSON implements json.Marshaler.
func (t Trace) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 2+16*len(t))
	b = append(b, '[')
	for i, a := range t {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, '['), int64(a.File), 10)
		b = strconv.AppendInt(append(b, ','), int64(a.Block), 10)
		b = strconv.AppendInt(append(b, ','), int64(a.MS), 10)
		b = append(b, ']')
	}
	return append(b, ']'), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Trace) UnmarshalJSON(data []byte) error {
	if n := bytes.Count(data, []byte("[")) - 1; n > MaxTrace {
		return fmt.Errorf("trace of %d accesses, at most %d are allowed", n, MaxTrace)
	}
	var raw [][]uint32
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	*t = make(Trace, len(raw))
	for i, a := range raw {
		if len(a) != 3 || a[2] > math.MaxInt32 {
			return fmt.Errorf("trace, access %d: %d numbers, want file, block and milliseconds", i, len(a))
		}
		(*t)[i] = Access{File: int(a[0]), Block: int(a[1]), MS: int(a[2])}
	}
	return nil
}

// ParseReport reads and checks a report. Errors wrap ErrReport.
func ParseReport(data []byte) (*Report, error) {
	// Cheap, and a bound for what reading costs.
	if n := bytes.Count(data, []byte("[")) + bytes.Count(data, []byte("{")); n > maxBrackets {
		return nil, fmt.Errorf("%w: %d arrays and objects, at most %d are allowed", ErrReport, n, maxBrackets)
	}
	var r Report
	if err := strictjson.Unmarshal(data, MaxReport, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	return &r, nil
}

// Marshal checks r and returns it as a file.
func (r *Report) Marshal() ([]byte, error) {
	c := *r
	c.Format = Format
	if err := c.Check(); err != nil {
		return nil, err
	}
	data, err := json.Marshal(&c)
	if err != nil {
		return nil, fmt.Errorf("encode the boot report: %w", err)
	}
	if len(data) > MaxReport {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrReport, len(data), MaxReport)
	}
	return data, nil
}

// Check returns an error that wraps ErrReport if r is not a report.
func (r *Report) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrReport, fmt.Errorf(format, args...))
	}
	if r.Format != Format {
		return bad("format is %q, want %q", r.Format, Format)
	}
	if !hexadecimal(r.BootID, 32) {
		return bad("boot_id %.40q, want 32 hexadecimal digits", r.BootID)
	}
	if mac, err := net.ParseMAC(r.Client); err != nil || mac.String() != r.Client {
		return bad("client %.40q, want a MAC address with colons and lower-case digits", r.Client)
	}
	for _, s := range []string{r.Image.Name, r.Image.Version, r.Image.Arch} {
		if !storepath.ValidElement(s) {
			return bad("image: %.40q in name, version or arch", s)
		}
	}
	if r.Image.Manifest.IsZero() {
		return bad("image: no manifest")
	}
	if len(r.Files) < 1 || len(r.Files) > maxFiles {
		return bad("%d files, want 1 to %d", len(r.Files), maxFiles)
	}
	for i, f := range r.Files {
		if !storepath.ValidElement(f) || slices.Contains(r.Files[:i], f) {
			return bad("file name %.40q", f)
		}
	}
	if len(r.Stages) > maxStages {
		return bad("%d stages, at most %d are allowed", len(r.Stages), maxStages)
	}
	for i, s := range r.Stages {
		switch {
		case !storepath.ValidElement(s.Name) || len(s.Name) > maxStageName:
			return bad("name of a stage: %.40q", s.Name)
		case s.Unix < 0 || s.Unix > maxUnix || i > 0 && s.Unix < r.Stages[i-1].Unix:
			return bad("stage %s at %d ms: times have to be in order", s.Name, s.Unix)
		}
	}
	o := &r.Origins
	for _, c := range []Count{o.Memory, o.Disk, o.Pack, o.Demand, o.Ahead, o.Fill} {
		if c.Blocks < 0 || c.Bytes < 0 || c.Stored < 0 {
			return bad("origins: %+v", c)
		}
	}
	if len(r.Trace) > MaxTrace {
		return bad("trace of %d accesses, at most %d are allowed", len(r.Trace), MaxTrace)
	}
	seen := make(map[uint64]bool, len(r.Trace))
	for i, a := range r.Trace {
		switch id := uint64(a.File)<<32 | uint64(a.Block); {
		case a.File < 0 || a.File >= len(r.Files) || a.Block < 0 || a.Block >= index.MaxEntries:
			return bad("trace: block %d of file %d cannot be", a.Block, a.File)
		case a.MS < 0 || a.MS > math.MaxInt32 || i > 0 && a.MS < r.Trace[i-1].MS:
			return bad("trace: %d ms: times have to be in order", a.MS)
		case seen[id]:
			return bad("trace: block %d of file %d stands twice", a.Block, a.File)
		default:
			seen[id] = true
		}
	}
	return nil
}

func hexadecimal(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Step is the time from one stage of a boot to the next.
type Step struct {
	Name    string  `json:"name"`    // of the stage that was reached
	Seconds float64 `json:"seconds"` // since the stage before it
}

// Steps returns where the time of the boot went: for each stage but the first
// how long it took to get there. Their sum is the time of the boot.
func (r *Report) Steps() []Step {
	var out []Step
	for i := 1; i < len(r.Stages); i++ {
		out = append(out, Step{r.Stages[i].Name, float64(r.Stages[i].Unix-r.Stages[i-1].Unix) / 1000})
	}
	return out
}
