package logs

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/syslog"
)

// Record is one line of a client's log, as it is stored: a line of JSON.
type Record struct {
	Came     time.Time `json:"came"`           // by this server's clock
	Time     time.Time `json:"time"`           // as the client says
	From     string    `json:"from,omitempty"` // the client's IP address
	Host     string    `json:"host,omitempty"`
	App      string    `json:"app,omitempty"`
	PID      string    `json:"pid,omitempty"`
	Boot     string    `json:"boot,omitempty"` // which boot the client says that it is of
	Facility int       `json:"facility"`
	Severity int       `json:"severity"`
	Text     string    `json:"text"`
}

// newRecord makes a record of a message.
func newRecord(m *syslog.Received, came time.Time, from string) Record {
	return Record{Came: came, Time: m.Time, From: from, Host: m.Host, App: m.App, PID: m.PID, Boot: m.Boot, Facility: m.Facility, Severity: m.Severity, Text: m.Text}
}

// String returns the record for people: the time it came, who wrote it, what.
func (r *Record) String() string {
	var b strings.Builder
	b.WriteString(r.Came.Local().Format("2006-01-02 15:04:05.000"))
	if r.App != "" {
		b.WriteString(" " + r.App)
		if r.PID != "" {
			b.WriteString("[" + r.PID + "]")
		}
		b.WriteByte(':')
	}
	if r.Severity <= syslog.Warning {
		b.WriteString([]string{" EMERGENCY", " ALERT", " CRITICAL", " ERROR", " WARNING"}[max(r.Severity, 0)])
	}
	b.WriteString(" " + r.Text)
	return b.String()
}

// appendTo appends the record and the end of its line.
func (r *Record) appendTo(b []byte) ([]byte, error) {
	line, err := json.Marshal(r)
	if err != nil {
		return b, fmt.Errorf("write a line of the log: %w", err)
	}
	return append(append(b, line...), '\n'), nil
}

// maxLine bounds a stored line, in bytes: every byte of a message may become six.
const maxLine = 6*3*syslog.MaxReceived + 4096

// parseRecord reads a stored line.
func parseRecord(line []byte) (Record, error) {
	var r Record
	err := json.Unmarshal(line, &r)
	r.Severity = min(max(r.Severity, 0), 7)
	return r, err
}

// boots counts the boots that a client's records are of. One begins with the
// first record that names another boot, or with the kernel's first line, unless
// that is the kernel that was started within the same boot.
type boots struct {
	n      int
	id     string
	kernel bool // this boot's kernel has begun
}

// of returns the number of the boot that r is of, from 1.
func (b *boots) of(r *Record) int {
	first := strings.Contains(r.Text, "Linux version ") && (r.App == "kernel" || r.App == "" || r.Facility == syslog.Kernel)
	switch {
	case r.Boot != "" && r.Boot != b.id:
		b.n, b.id, b.kernel = b.n+1, r.Boot, false
	case r.Boot == "" && first && (b.kernel || b.id == ""):
		b.n, b.id, b.kernel = b.n+1, "", true
	case first:
		b.kernel = b.kernel || r.Boot == ""
	}
	b.n = max(b.n, 1)
	return b.n
}
