package boots

import (
	"fmt"
	"slices"
	"time"

	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
)

// Summary says what is known of the boots of an image.
type Summary struct {
	Manifest digest.SHA256 `json:"manifest"`
	Image    string        `json:"image"`   // name of the manifest in the catalog
	Reports  []Received    `json:"reports"` // newest first
	Newest   *Newest       `json:"newest,omitempty"`
	Pack     *Pack         `json:"pack,omitempty"` // absent if there is none
}

// Received is a report that is kept.
type Received struct {
	Client   string    `json:"client"`
	From     string    `json:"from"` // address; of IPv6 the first 64 bits
	Received time.Time `json:"received"`
}

// Newest is what the newest report says.
type Newest struct {
	BootID  string          `json:"boot_id"`
	Client  string          `json:"client"`
	Seconds float64         `json:"seconds"` // from the first to the last stage
	Stages  []handoff.Stage `json:"stages"`
	Steps   []pack.Step     `json:"steps"`
	Origins pack.Origins    `json:"origins"`
	Blocks  int             `json:"blocks"` // that were read
}

// Pack describes the boot pack.
type Pack struct {
	Bytes     int64     `json:"bytes"`
	Time      time.Time `json:"time"`
	Publisher bool      `json:"publisher"` // it was not built from reports
}

// Summary returns what is known of the boots of an image that the catalog
// lists; ErrUnknown for another one.
func (k *Keeper) Summary(m digest.SHA256) (*Summary, error) {
	images, err := k.store.Images()
	if err != nil {
		return nil, err
	}
	name, ok := images[m]
	if !ok {
		return nil, fmt.Errorf("%w: the catalog does not list the manifest %s", ErrUnknown, m.Short())
	}
	s := &Summary{Manifest: m, Image: name, Reports: []Received{}}
	k.mu.Lock()
	all := slices.Clone(k.kept[m])
	k.mu.Unlock()
	for _, r := range slices.Backward(all) {
		s.Reports = append(s.Reports, Received{Client: r.client, From: r.from, Received: r.received})
		if s.Newest != nil {
			continue
		}
		if p, err := k.reports.read(m, r.file); err == nil {
			s.Newest = &Newest{BootID: p.BootID, Client: p.Client, Stages: p.Stages, Steps: p.Steps(), Origins: p.Origins, Blocks: len(p.Trace)}
			for _, step := range s.Newest.Steps {
				s.Newest.Seconds += step.Seconds
			}
		}
	}
	if info, err := k.store.StatPack(m); err == nil {
		mine, _, _ := k.mine(m)
		s.Pack = &Pack{Bytes: info.Size(), Time: info.ModTime(), Publisher: !mine}
	}
	return s, nil
}
