package target

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/bootsettings"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/storepath"
)

func TestReadSettings(t *testing.T) {
	files := map[string][]byte{}
	h := &handoff.Handoff{}
	for i, s := range []*bootsettings.Settings{
		{Format: bootsettings.Format, Hostname: "a", Timezone: "UTC"}, {Format: bootsettings.Format, Hostname: "b"},
	} {
		data, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		blob := digest.BlobOf(data)
		p := storepath.Target("settings/entries/"+strconv.Itoa(i)+".json", blob.SHA256)
		h.Settings = append(h.Settings, handoff.StoreFile{Path: p, Blob: blob})
		files[handoff.StorePath(p)] = data
	}
	read := func(p string) ([]byte, error) {
		if b, ok := files[p]; ok {
			return b, nil
		}
		return nil, fs.ErrNotExist
	}
	s, err := readSettings(h, read)
	if err != nil || s.Hostname != "b" || s.Timezone != "UTC" {
		t.Errorf("readSettings() = %+v, %v; want both documents, the later one over the first", s, err)
	}
	first := handoff.StorePath(h.Settings[0].Path)
	good := files[first]
	files[first] = append(bytes.Clone(good), ' ')
	if s, err := readSettings(h, read); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("readSettings() of a changed document = %+v, %v; want ErrMismatch", s, err)
	}
	delete(files, first)
	if s, err := readSettings(h, read); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("readSettings() without the document = %+v, %v; want ErrNotExist", s, err)
	}
	if s, err := readSettings(&handoff.Handoff{}, read); err != nil || s.Hostname != "" {
		t.Errorf("readSettings() without any = %+v, %v", s, err)
	}
}

func TestVariables(t *testing.T) {
	file := filepath.Join(t.TempDir(), "inetboot", "settings.env")
	if err := writeVariables(file, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without settings there is a file: %v", err)
	}
	if err := writeVariables(file, map[string]string{"ROOM": "it's 12", "CLIENT_NAME": "pc1"}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "CLIENT_NAME='pc1'\nROOM='it'\\''s 12'\n" {
		t.Errorf("the file has %q, %v", got, err)
	}
}

func TestScript(t *testing.T) {
	var log bytes.Buffer
	b := &booter{
		log: slog.New(slog.NewTextHandler(&log, nil)), settings: &bootsettings.Settings{Environment: map[string]string{"GREETING": "hello"}},
		h: &handoff.Handoff{Variables: map[string]string{"CLIENT_NAME": "pc1", "GREETING": "not this"}, Entry: "e", Mirrors: []string{"http://m/"}, Network: handoff.Network{Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.7/24")}}},
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	for name, tt := range map[string]struct {
		text    string
		seconds int
		err     string // "": none
		says    []string
	}{
		"environment":    {"#!/bin/sh\necho $GREETING $CLIENT_NAME $INETBOOT_ENTRY $INETBOOT_IP $INETBOOT_MIRROR; pwd", 10, "", []string{`"script: hello pc1 e 10.0.0.7 http://m/"`, `"script: /"`}},
		"for the shell":  {"echo one; echo two >&2; printf three", 10, "", []string{"script: one", "script: two", "script: three"}},
		"fails":          {"#!/bin/sh\necho why; exit 3", 10, "exit status 3", []string{"script: why"}},
		"no interpreter": {"#!/does/not/exist\n", 10, "no such file", nil},
		"takes too long": {"echo started; sleep 100 & echo $! > " + pidFile + "; wait", 1, "not ended after 1s", []string{"script: started"}},
		"in background":  {"sleep 100 & echo $! > " + pidFile + "; exit 0", 10, "", nil},
		"no line":        {"head -c 3000 /dev/zero | tr '\\0' x", 10, "", []string{"script: " + strings.Repeat("x", maxScriptLine) + "\n"}},
		"says too much":  {"yes | head -c 1000000", 30, "", []string{"(and more, which is not shown)"}},
	} {
		t.Run(name, func(t *testing.T) {
			log.Reset()
			os.Remove(pidFile)
			file := filepath.Join(t.TempDir(), "script")
			err := b.script(t.Context(), &bootsettings.Script{Text: tt.text, Timeout: tt.seconds}, file)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("script() = %v; want %q", err, tt.err)
			}
			for _, want := range tt.says {
				if !strings.Contains(log.String(), want) && !strings.Contains(log.String(), strings.TrimSpace(want)) {
					t.Errorf("log = %.500s; want %q in it", log.String(), want)
				}
			}
			if log.Len() > 4*maxScriptLog*60 {
				t.Errorf("log of %d bytes", log.Len())
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("the script's file is still there")
			}
			pid, err := os.ReadFile(pidFile)
			if err != nil {
				return
			}
			n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
			if err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				state, err := os.ReadFile("/proc/" + strconv.Itoa(n) + "/stat")
				if err != nil || strings.Contains(string(state), ") Z ") {
					break
				}
				if time.Now().After(end) {
					_ = unix.Kill(n, unix.SIGKILL)
					t.Fatalf("process %d is still there: %s", n, state)
				}
			}
		})
	}
}

// TestOnFailure wants a failing script to stop the boot where it is asked to.
func TestOnFailure(t *testing.T) {
	b := &booter{log: slog.New(slog.DiscardHandler), settings: &bootsettings.Settings{}, h: &handoff.Handoff{Mirrors: []string{"http://m/"}}}
	if err := b.runScript(t.Context()); err != nil {
		t.Errorf("runScript() without a script = %v", err)
	}
	// Where the script would be written there is no folder.
	for on, stops := range map[string]bool{"": false, bootsettings.Continue: false, bootsettings.Stop: true} {
		b.settings.Script = &bootsettings.Script{Text: "exit 1", OnFailure: on}
		var f *failure
		if err := b.runScript(t.Context()); errors.As(err, &f) != stops {
			t.Errorf("runScript() with on_failure %q = %v; want it to stop the boot: %v", on, err, stops)
		}
	}
}

func TestProgramFiles(t *testing.T) {
	sh, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	files, err := programFiles("/", sh)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/libc.so", "/ld-linux"} {
		if !slices.ContainsFunc(files, func(f string) bool { return strings.Contains(f, want) }) {
			t.Errorf("programFiles(%s) = %q; want %s among them", sh, files, want)
		}
	}
	static, err := os.Executable() // without the race detector it is static
	if err != nil {
		t.Fatal(err)
	}
	if files, err := programFiles("/", static); err != nil || files[0] != static {
		t.Errorf("programFiles(%s) = %q, %v", static, files, err)
	}
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "init"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if files, err := programFiles(root, "/init"); err == nil || len(files) != 1 {
		t.Errorf("programFiles of a script = %q, %v; want it alone, and an error", files, err)
	}
}
