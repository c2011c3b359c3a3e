package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// result is one line of the table. A ratio above 1 means that ours is better;
// without a peer there is none.
type result struct {
	Name     string   `json:"name"`
	Unit     string   `json:"unit"`
	Ours     float64  `json:"ours"`
	Peer     *float64 `json:"peer"`
	PeerName string   `json:"peer_name"`
	Ratio    *float64 `json:"ratio"`
	// AtLeast: the peer had not finished at its time limit, which stands for
	// its figure; the ratio is a lower bound.
	AtLeast bool   `json:"at_least,omitempty"`
	Target  string `json:"target,omitempty"`
	Met     *bool  `json:"met,omitempty"`
	Note    string `json:"note,omitempty"`
	Load    string `json:"load"` // of the machine in the last minute, when it was measured
}

// figure is a result without a peer.
func figure(name, unit string, ours float64) result {
	return result{Name: name, Unit: unit, Ours: ours}
}

// speed compares two rates, of which the larger one is better.
func speed(name, unit string, ours, peer float64, peerName string) result {
	ratio := ours / peer
	return result{Name: name, Unit: unit, Ours: ours, Peer: &peer, PeerName: peerName, Ratio: &ratio}
}

// duration compares two times, of which the shorter one is better.
func duration(name string, ours, peer time.Duration, peerName string) result {
	p := peer.Seconds()
	ratio := p / ours.Seconds()
	return result{Name: name, Unit: "s", Ours: ours.Seconds(), Peer: &p, PeerName: peerName, Ratio: &ratio}
}

// wantRatio sets the ratio that is to be reached.
func (r result) wantRatio(least float64) result {
	met := *r.Ratio >= least
	r.Target, r.Met = fmt.Sprintf("ratio ≥ %g", least), &met
	return r
}

// wantLeast and wantMost set the bound of a figure.
func (r result) wantLeast(least float64) result {
	met := r.Ours >= least
	r.Target, r.Met = fmt.Sprintf("≥ %.4g", least), &met
	return r
}

func (r result) wantMost(most float64) result {
	met := r.Ours <= most
	r.Target, r.Met = fmt.Sprintf("≤ %.4g", most), &met
	return r
}

func (r result) noted(format string, args ...any) result {
	r.Note = fmt.Sprintf(format, args...)
	return r
}

// verdict says whether the target is met. A lower bound that is below the
// target says neither.
func (r *result) verdict() string {
	switch {
	case r.Met == nil:
		return ""
	case *r.Met:
		return "met"
	case r.AtLeast:
		return "not decided: peer stopped at its limit"
	}
	return "MISSED"
}

func (r *result) peerText() string {
	if r.Peer == nil {
		return ""
	}
	switch {
	case r.AtLeast && r.Unit == "s":
		return fmt.Sprintf("> %.4g", *r.Peer)
	case r.AtLeast:
		return fmt.Sprintf("< %.4g", *r.Peer)
	}
	return fmt.Sprintf("%.4g", *r.Peer)
}

func (r *result) ratioText() string {
	if r.Ratio == nil {
		return ""
	}
	if r.AtLeast {
		return fmt.Sprintf("> %.2f", *r.Ratio)
	}
	return fmt.Sprintf("%.2f", *r.Ratio)
}

// report prints a result when it is there, and keeps it.
func (b *bench) report(r result) {
	r.Load = load()
	line := fmt.Sprintf("%s: %.4g %s", r.Name, r.Ours, r.Unit)
	if r.Peer != nil {
		line += fmt.Sprintf(", %s %s, ratio %s", r.PeerName, r.peerText(), r.ratioText())
	}
	if v := r.verdict(); v != "" {
		line += ", target " + r.Target + " " + v
	}
	if r.Note != "" {
		line += " (" + r.Note + ")"
	}
	fmt.Fprintf(b.out, "bench: → %s\n", line)
	b.results = append(b.results, r)
}

// say prints what is going on, with the time and the machine's load.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.out, "bench: %s [load %s] %s\n", time.Now().Format("15:04:05"), load(), fmt.Sprintf(format, args...))
}

// load returns the load average of the last minute, see proc(5).
func load() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	one, _, _ := strings.Cut(string(raw), " ")
	return one
}

func table(out io.Writer, rs []result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tunit\tours\tpeer\t\tratio\ttarget\t\tload\tnote")
	for _, r := range rs {
		fmt.Fprintf(w, "%s\t%s\t%.4g\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, r.Unit, r.Ours, r.peerText(), r.PeerName, r.ratioText(), r.Target, r.verdict(), r.Load, r.Note)
	}
	return w.Flush()
}

func writeJSON(dir, part string, rs []result) error {
	if rs == nil {
		rs = []result{}
	}
	data, err := json.MarshalIndent(rs, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, part+".json"), append(data, '\n'), 0o644)
}

// median returns the middle one, or the mean of the two in the middle.
func median(xs []float64) float64 {
	s := slices.Sorted(slices.Values(xs))
	n := len(s)
	if n == 0 {
		return 0
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}
