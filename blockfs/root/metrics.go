package root

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/inetboot/inetboot/blockfs/cache"
	"github.com/inetboot/inetboot/blockfs/read"
)

// WriteMetrics writes the status in Prometheus' text format, version 0.0.4.
// The client library would make every target's initramfs larger by a third.
func (s *Status) WriteMetrics(w io.Writer) error {
	var m metricsText
	m.family("inetboot_blockfs_blocks_total", "counter", "Blocks by origin.")
	for o := range read.Origins {
		m.sample(float64(s.Origins[o.String()].Blocks), "origin", o.String())
	}
	m.family("inetboot_blockfs_bytes_total", "counter", "Plain bytes of blocks by origin.")
	for o := range read.Origins {
		m.sample(float64(s.Origins[o.String()].Bytes), "origin", o.String())
	}
	m.one("inetboot_blockfs_read_bytes_total", "counter", "Bytes that readers got.", float64(s.Reads.Bytes))
	m.one("inetboot_blockfs_network_bytes_total", "counter", "Bytes of blocks that came over the network, as stored.", float64(s.Network.Stored))
	m.one("inetboot_blockfs_retries_total", "counter", "Attempts that failed and were repeated.", float64(s.Network.Retries))
	m.family("inetboot_blockfs_refused_total", "counter", "Blocks that were wrong, by where they came from.")
	m.sample(float64(s.Network.Refused), "origin", "network")
	m.sample(float64(s.Reads.CacheRefused), "origin", "disk")
	m.sample(float64(s.Reads.PackRefused), "origin", "pack")
	m.one("inetboot_blockfs_pack_unused_total", "counter", "Blocks of the boot pack that nobody wanted.", float64(s.Reads.PackUnused))
	m.one("inetboot_blockfs_waits_total", "counter", "How often a reader waited for a block.", float64(s.Waits.Count))
	m.one("inetboot_blockfs_wait_seconds_total", "counter", "For how long readers waited.", s.Waits.Seconds)
	m.one("inetboot_blockfs_wait_longest_seconds", "gauge", "The longest that a reader waited.", s.Waits.Longest)
	m.one("inetboot_blockfs_waiting", "gauge", "Blocks that wait for a mirror to come back.", float64(s.Waits.Now))
	m.one("inetboot_blockfs_down", "gauge", "1 if no mirror can be reached.", truth(s.Network.Down))
	if len(s.Mirrors) > 0 {
		for _, f := range []struct {
			name, kind, help string
			value            func(Mirror) float64
		}{
			{"inetboot_mirror_preferred", "gauge", "1 for the mirror that is asked first.", func(m Mirror) float64 { return truth(m.Preferred) }},
			{"inetboot_mirror_usable", "gauge", "0 for a mirror that rests after failures.", func(m Mirror) float64 { return truth(m.Resting == 0) }},
			{"inetboot_mirror_rtt_seconds", "gauge", "Time to the beginning of an answer; 0 if not known.", func(m Mirror) float64 { return m.RTT / 1000 }},
			{"inetboot_mirror_requests_total", "counter", "Requests.", func(m Mirror) float64 { return float64(m.Requests) }},
			{"inetboot_mirror_failures_total", "counter", "Requests that failed.", func(m Mirror) float64 { return float64(m.Failures) }},
			{"inetboot_mirror_bytes_total", "counter", "Bytes of answers.", func(m Mirror) float64 { return float64(m.Bytes) }},
		} {
			m.family(f.name, f.kind, f.help)
			for _, one := range s.Mirrors {
				m.sample(f.value(one), "url", one.URL)
			}
		}
	}
	if s.Cache != nil {
		m.cache(s.Cache)
	}
	m.one("inetboot_blockfs_fill_blocks", "gauge", "Blocks of the image that the cache has.", float64(s.Fill.Blocks))
	m.one("inetboot_blockfs_fill_total_blocks", "gauge", "Blocks of the image that the cache shall have.", float64(s.Fill.Total))
	if st := s.Boot.Stages; len(st) > 0 {
		m.family("inetboot_boot_stage_seconds", "gauge", "When a stage of the boot was reached, since its first one.")
		for _, b := range st {
			m.sample(float64(b.Unix-st[0].Unix)/1000, "stage", b.Name)
		}
		m.one("inetboot_boot_over", "gauge", "1 if the boot is over.", truth(s.Boot.Over))
	}
	m.one("inetboot_blockfs_resident_bytes", "gauge", "Memory of the process.", float64(s.Memory.Resident))
	m.one("inetboot_blockfs_resident_peak_bytes", "gauge", "Memory of the process, at most.", float64(s.Memory.Peak))
	_, err := io.WriteString(w, m.b.String())
	return err
}

func (m *metricsText) cache(c *cache.Stats) {
	m.one("inetboot_cache_ok", "gauge", "1 if the cache reads and writes.", truth(c.State == cache.StateOK))
	for _, f := range []struct {
		name, kind, help string
		value            int64
	}{
		{"inetboot_cache_blocks", "gauge", "Blocks on the disk.", int64(c.Blocks)},
		{"inetboot_cache_bytes", "gauge", "Bytes of the disk that the cache takes.", c.Bytes},
		{"inetboot_cache_quota_bytes", "gauge", "Bytes of the disk that it may take.", c.Quota},
		{"inetboot_cache_hits_total", "counter", "Blocks that were there.", c.Hits},
		{"inetboot_cache_misses_total", "counter", "Blocks that were not there.", c.Misses},
		{"inetboot_cache_writes_total", "counter", "Blocks written.", c.Writes},
		{"inetboot_cache_refused_total", "counter", "Blocks not taken.", c.Refused},
		{"inetboot_cache_evicted_total", "counter", "Blocks thrown out.", c.Evicted},
	} {
		m.one(f.name, f.kind, f.help, float64(f.value))
	}
	m.family("inetboot_cache_errors_total", "counter", "Trouble with the disk.")
	m.sample(float64(c.ReadErrors), "kind", "read")
	m.sample(float64(c.ReadTimeouts), "kind", "timeout")
	m.sample(float64(c.WriteErrors), "kind", "write")
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

type metricsText struct {
	b    strings.Builder
	name string
	seen map[string]bool // labels of this family
}

func (m *metricsText) family(name, kind, help string) {
	m.name, m.seen = name, map[string]bool{}
	fmt.Fprintf(&m.b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (m *metricsText) one(name, kind, help string, v float64) {
	m.family(name, kind, help)
	m.sample(v)
}

// sample writes a value with labels: name, value, name, value. Of samples with
// the same labels only the first is written.
func (m *metricsText) sample(v float64, labels ...string) {
	var b strings.Builder
	for i := 0; i < len(labels); i += 2 {
		fmt.Fprintf(&b, ",%s=\"%s\"", labels[i], labelEscapes.Replace(labels[i+1]))
	}
	text := ""
	if b.Len() > 0 {
		text = "{" + b.String()[1:] + "}"
	}
	if m.seen[text] {
		return
	}
	m.seen[text] = true
	m.b.WriteString(m.name + text + " " + strconv.FormatFloat(v, 'g', -1, 64) + "\n")
}

var labelEscapes = strings.NewReplacer("\\", `\\`, "\"", `\"`, "\n", `\n`)
