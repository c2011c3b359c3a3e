package boots

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/inetboot/inetboot/internal/bootlog"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/server/store"
)

// What is kept of logs at most: 64 MiB.
const (
	MaxLogs     = 256 // the newest
	MaxLogShare = 64  // of these from one address
)

// Log describes a log that is kept.
type Log struct {
	BootID   string    `json:"boot_id"`
	Part     string    `json:"part"` // bootlog.Preboot or bootlog.Target
	Client   string    `json:"client"`
	From     string    `json:"from"` // address; of IPv6 the first 64 bits
	Received time.Time `json:"received"`
	Entry    string    `json:"entry,omitempty"`
	Failure  string    `json:"failure,omitempty"` // "": it got through, so far
	Lines    int       `json:"lines"`

	file string
}

// FullLog is one with its contents.
type FullLog struct {
	Log
	Stages []handoff.Stage `json:"stages"`
	Text   []bootlog.Line  `json:"log"`
}

// logs keeps what machines send of their logs, in a file for each part of a
// boot: BOOT_PART_ADDRESS.json.
type logs struct {
	dir string

	mu   sync.Mutex
	kept []Log // oldest first
}

func openLogs(dir string) (*logs, error) {
	l := &logs{dir: dir}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open the folder of boot logs: %w", err)
	}
	for _, e := range entries {
		f := strings.SplitN(strings.TrimSuffix(e.Name(), ".json"), "_", 3)
		info, err := e.Info()
		if strings.HasPrefix(e.Name(), temporary) {
			l.remove(e.Name())
		}
		if len(f) != 3 || err != nil || !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		r, err := l.read(e.Name())
		if err != nil {
			l.remove(e.Name()) // a crash may have left it half written
			continue
		}
		l.kept = append(l.kept, describe(r, address(f[2]), info.ModTime(), e.Name()))
	}
	slices.SortFunc(l.kept, func(a, b Log) int { return cmp.Or(a.Received.Compare(b.Received), cmp.Compare(a.file, b.file)) })
	l.bound()
	return l, nil
}

func describe(r *bootlog.Report, from string, at time.Time, file string) Log {
	return Log{BootID: r.BootID, Part: r.Part, Client: r.Client, From: from, Received: at, Entry: r.Entry, Failure: r.Failure, Lines: len(r.Lines), file: file}
}

func (l *logs) remove(name string) { _ = os.Remove(filepath.Join(l.dir, name)) }

func (l *logs) read(name string) (*bootlog.Report, error) {
	in, err := os.Open(filepath.Join(l.dir, name))
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, bootlog.MaxBytes+1))
	if err != nil {
		return nil, err
	}
	return bootlog.Parse(data)
}

// bound removes the oldest that are too much. l.mu is held.
func (l *logs) bound() {
	share := make(map[string]int)
	var left []Log
	for _, k := range slices.Backward(l.kept) {
		if share[k.From]++; share[k.From] > MaxLogShare || len(left) == MaxLogs {
			l.remove(k.file)
		} else {
			left = append(left, k)
		}
	}
	slices.Reverse(left)
	l.kept = left
}

// add keeps a report in place of the one before about the same part of the
// same boot from the same address.
func (l *logs) add(r *bootlog.Report, from string) error {
	data, err := r.Marshal()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s_%s_%s.json", r.BootID, r.Part, strings.ReplaceAll(from, ":", "-"))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.write(name, data); err != nil {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("%w: %w", store.ErrFull, err)
		}
		return fmt.Errorf("keep a boot log: %w", err)
	}
	l.kept = slices.DeleteFunc(l.kept, func(k Log) bool { return k.file == name })
	l.kept = append(l.kept, describe(r, from, time.Now(), name))
	l.bound()
	return nil
}

func (l *logs) write(name string, data []byte) error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil { // command lines may have secrets
		return err
	}
	out, err := os.CreateTemp(l.dir, temporary+"*")
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(out.Name(), filepath.Join(l.dir, name))
	}
	if err != nil {
		os.Remove(out.Name())
	}
	return err
}

// AddLog takes a log that came from an address. Errors wrap bootlog.ErrReport
// or ErrBusy, or are of the disk.
func (k *Keeper) AddLog(ctx context.Context, from netip.Addr, data []byte) error {
	done, err := k.turn(ctx)
	if err != nil {
		return err
	}
	defer done()
	r, err := bootlog.Parse(data)
	if err != nil {
		return err
	}
	if err := k.logs.add(r, Neighbourhood(from)); err != nil {
		return err
	}
	args := []any{"part", r.Part, "client", r.Client, "from", from.String(), "boot_id", r.BootID, "entry", r.Entry, "lines", len(r.Lines)}
	if r.Failure != "" {
		k.log.Warn("boot failed", append(args, "failure", r.Failure)...)
	} else {
		k.log.Info("boot log", args...)
	}
	return nil
}

// LogQuery chooses logs. What is empty chooses all.
type LogQuery struct {
	Client string // MAC address
	BootID string
	Failed bool // those of boots that did not get through
}

// Logs returns what is kept of what q chooses, newest first.
func (k *Keeper) Logs(q LogQuery) []Log {
	k.logs.mu.Lock()
	defer k.logs.mu.Unlock()
	found := []Log{}
	for _, l := range slices.Backward(k.logs.kept) {
		if (q.Client == "" || q.Client == l.Client) && (q.BootID == "" || q.BootID == l.BootID) && (!q.Failed || l.Failure != "") {
			found = append(found, l)
		}
	}
	return found
}

// BootLogs returns the logs of a boot, with their lines; ErrUnknown if there
// are none.
func (k *Keeper) BootLogs(id string) ([]FullLog, error) {
	var all []FullLog
	for _, l := range slices.Backward(k.Logs(LogQuery{BootID: id})) { // preboot's comes first
		r, err := k.logs.read(l.file)
		if err != nil {
			continue // it has made room meanwhile
		}
		all = append(all, FullLog{Log: l, Stages: r.Stages, Text: r.Lines})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: there is no log of the boot %.40q", ErrUnknown, id)
	}
	return all, nil
}
