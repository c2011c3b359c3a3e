package boots

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/strictjson"
	"github.com/inetboot/inetboot/server/store"
)

// folder has a folder for each manifest, with a file for each report. When
// a report came is its file's time of modification.
type folder string

const (
	temporary = ".new-"
	maxState  = 4096 // bytes
)

func (f folder) of(m digest.SHA256) string { return filepath.Join(string(f), m.String()) }

// manifests lists the manifests that have a folder.
func (f folder) manifests() ([]digest.SHA256, error) {
	entries, err := os.ReadDir(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []digest.SHA256
	for _, e := range entries {
		if m, err := digest.Parse(e.Name()); err == nil && e.IsDir() {
			out = append(out, m)
		}
	}
	return out, err
}

// list returns the reports in a manifest's folder, oldest first. What a stop
// has left half done is removed.
func (f folder) list(m digest.SHA256) []kept {
	entries, err := os.ReadDir(f.of(m))
	if err != nil {
		return nil
	}
	var all []kept
	for _, e := range entries {
		client, from, ok := strings.Cut(strings.TrimSuffix(e.Name(), ".json"), "_")
		info, err := e.Info()
		switch {
		case strings.HasPrefix(e.Name(), temporary):
			f.remove(m, e.Name())
		case ok && err == nil && strings.HasSuffix(e.Name(), ".json"):
			all = append(all, kept{file: e.Name(), client: strings.ReplaceAll(client, "-", ":"), from: address(from), received: info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b kept) int {
		return cmp.Or(a.received.Compare(b.received), cmp.Compare(a.file, b.file))
	})
	all, gone := bounded(all)
	for _, r := range gone {
		f.remove(m, r.file)
	}
	return all
}

// address undoes what fileName does to an address: IPv4 has no minus.
func address(s string) string { return strings.ReplaceAll(s, "-", ":") }

// read returns a report. One that cannot be read is removed: a crash may have
// left it half written.
func (f folder) read(m digest.SHA256, name string) (*pack.Report, error) {
	in, err := os.Open(filepath.Join(f.of(m), name))
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, pack.MaxReport+1))
	if err != nil {
		return nil, err
	}
	r, err := pack.ParseReport(data)
	if err == nil && r.Image.Manifest != m {
		err = fmt.Errorf("%w: it is about the manifest %s", pack.ErrReport, r.Image.Manifest.Short())
	}
	if err != nil {
		f.remove(m, name)
		return nil, fmt.Errorf("%s: %w", in.Name(), err)
	}
	return r, nil
}

// state returns what is known of the pack that was built from the reports.
func (f folder) state(m digest.SHA256) (state, error) {
	var s state
	in, err := os.Open(filepath.Join(f.of(m), stateFile))
	if err != nil {
		return s, err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, maxState))
	if err != nil {
		return s, err
	}
	return s, strictjson.Unmarshal(data, maxState, &s)
}

func (f folder) setState(m digest.SHA256, s state) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return f.write(m, stateFile, data)
}

// write replaces a file.
func (f folder) write(m digest.SHA256, name string, data []byte) error {
	fail := func(err error) error {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("%w: %w", store.ErrFull, err)
		}
		return fmt.Errorf("keep a boot report: %w", err)
	}
	if err := os.MkdirAll(f.of(m), 0o755); err != nil {
		return fail(err)
	}
	out, err := os.CreateTemp(f.of(m), temporary+"*")
	if err != nil {
		return fail(err)
	}
	_, err = out.Write(data)
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(out.Name(), filepath.Join(f.of(m), name))
	}
	if err != nil {
		os.Remove(out.Name())
		return fail(err)
	}
	return nil
}

// remove removes a file that nobody needs; if it stays it does no harm.
func (f folder) remove(m digest.SHA256, name string) { _ = os.Remove(filepath.Join(f.of(m), name)) }
