// Package bootsettings is what a publisher may change about a machine without
// building its image anew: a small document that lies beside the image in the
// store and is applied at each boot, before the image's own init starts. An
// image has settings by its name, for all of its versions, and by name and
// version; an entry of the menu has its own. The more particular ones go over
// the more general ones, so one image serves many sites.
package bootsettings

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/inetboot/inetboot/internal/strictjson"
)

// Format is the value of a Settings' "format".
const Format = "inetboot-settings/1"

// MaxSize bounds a document, in bytes. Three of them travel with a boot.
const MaxSize = 256 << 10

// Bounds of what a document holds.
const (
	maxCmdline     = 1000
	maxFiles       = 256
	maxUsers       = 64
	maxKeys        = 64 // of one user
	maxKey         = 16 << 10
	maxEnvironment = 256
	maxValue       = 4 << 10
	maxPath        = 1024
	maxScript      = 128 << 10
	maxText        = 200
)

// DefaultTimeout is how long a script may take if nobody says, and MaxTimeout
// how long at most, in seconds.
const (
	DefaultTimeout = 60
	MaxTimeout     = 3600
)

// ErrInvalid is wrapped by every error about a document's contents.
var ErrInvalid = errors.New("invalid settings")

// Settings is the document. What is not in it stays as the image has it.
type Settings struct {
	Format   string   `json:"format"`
	Requires []string `json:"requires,omitempty"` // features without which the image must not be started

	Hostname    string              `json:"hostname,omitempty"` // a pattern, see [Facts.Expand]
	Timezone    string              `json:"timezone,omitempty"` // as Europe/Vienna
	Locale      string              `json:"locale,omitempty"`   // as de_AT.UTF-8
	Keyboard    *Keyboard           `json:"keyboard,omitempty"`
	SSHKeys     map[string][]string `json:"ssh_keys,omitempty"` // user → lines of authorized_keys
	Files       []File              `json:"files,omitempty"`
	Cmdline     string              `json:"cmdline,omitempty"`     // appended to the kernel's command line
	Environment map[string]string   `json:"environment,omitempty"` // of init, of the script, and of log-ins
	Script      *Script             `json:"script,omitempty"`
}

// Keyboard is a layout, by the names of XKB (xkeyboard-config(7)).
type Keyboard struct {
	Layout  string `json:"layout"` // such as "de"
	Variant string `json:"variant,omitempty"`
	Model   string `json:"model,omitempty"`
	Options string `json:"options,omitempty"`
	Keymap  string `json:"keymap,omitempty"` // of the text console; without it the layout's name
}

// File is a file to write.
type File struct {
	Path   string `json:"path"`             // absolute
	Text   string `json:"text,omitempty"`   // content
	Base64 string `json:"base64,omitempty"` // content that is no text (RFC 4648 section 4)
	Mode   string `json:"mode,omitempty"`   // octal; without it that of the file that is there, else 0644
	Owner  string `json:"owner,omitempty"`  // name or number; without it that of the file that is there, else root
	Group  string `json:"group,omitempty"`  // likewise
	Append bool   `json:"append,omitempty"` // to what is there, unless it is there already
	Expand bool   `json:"expand,omitempty"` // Text is a pattern, see [Facts.Expand]
	Remove bool   `json:"remove,omitempty"` // the file is removed instead
}

// Script is a program that runs once in each boot, in the image's root before
// the image's init.
type Script struct {
	Text      string `json:"text"`                 // begins with #! and an interpreter; else it is for /bin/sh
	Timeout   int    `json:"timeout,omitempty"`    // seconds; 0: DefaultTimeout
	OnFailure string `json:"on_failure,omitempty"` // "continue" (the default) or "stop": the machine restarts
}

// What happens when a script fails.
const (
	Continue = "continue"
	Stop     = "stop"
)

// Limit returns how long the script may take.
func (s *Script) Limit() time.Duration {
	if s.Timeout == 0 {
		return DefaultTimeout * time.Second
	}
	return time.Duration(s.Timeout) * time.Second
}

// Content returns the bytes of the file.
func (f *File) Content() ([]byte, error) {
	if f.Base64 == "" {
		return []byte(f.Text), nil
	}
	b, err := base64.StdEncoding.DecodeString(f.Base64)
	if err != nil {
		return nil, fmt.Errorf("%w: file %s: %w", ErrInvalid, f.Path, err)
	}
	return b, nil
}

// Perm returns the permission bits of Mode. ok is false if there is none.
func (f *File) Perm() (perm uint32, ok bool) {
	if len(f.Mode) < 3 || len(f.Mode) > 5 {
		return 0, false
	}
	for _, c := range f.Mode {
		if c < '0' || c > '7' {
			return 0, false
		}
		perm = perm<<3 | uint32(c-'0')
	}
	return perm, perm <= 0o7777
}

// Parse reads and checks a document.
func Parse(data []byte) (*Settings, error) {
	var s Settings
	if err := strictjson.Unmarshal(data, MaxSize, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	return &s, nil
}

// Marshal checks s and returns it as a file.
func (s *Settings) Marshal() ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(s, "", " ")
	if err == nil && len(data) > MaxSize {
		err = fmt.Errorf("%w: %d bytes, at most %d are allowed: put large files into the image", ErrInvalid, len(data), MaxSize)
	}
	return data, err
}

// Check returns an error that wraps ErrInvalid if s cannot be applied, or a
// *strictjson.RequiresError.
func (s *Settings) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
	}
	if s.Format != Format {
		return bad("format is %q, want %q", s.Format, Format)
	}
	if err := strictjson.Requires("the settings", s.Requires, nil); err != nil {
		return err
	}
	if err := (Facts{}).check(s.Hostname); err != nil {
		return bad("hostname: %w", err)
	}
	k := Keyboard{}
	if s.Keyboard != nil {
		k = *s.Keyboard
		if k.Layout == "" {
			return bad("keyboard: layout is missing")
		}
	}
	for _, w := range []struct{ what, value, more string }{
		{"hostname", s.Hostname, "{}"}, {"timezone", s.Timezone, "/"}, {"locale", s.Locale, "@"},
		{"keyboard", k.Layout, ","}, {"keyboard", k.Variant, ","}, {"keyboard", k.Model, ""}, {"keyboard", k.Options, ",:"}, {"keyboard", k.Keymap, ""},
	} {
		if !word(w.value, w.more) {
			return bad("%s %q", w.what, w.value)
		}
	}
	if strings.HasPrefix(s.Timezone, "/") || slices.Contains(strings.Split(s.Timezone, "/"), "..") {
		return bad("timezone %q", s.Timezone)
	}
	if !Line(s.Cmdline, maxCmdline) {
		return bad("cmdline has more than %d bytes, or characters that are not printable", maxCmdline)
	}
	if err := s.checkKeys(); err != nil {
		return bad("%w", err)
	}
	if err := s.checkEnvironment(); err != nil {
		return bad("%w", err)
	}
	if err := s.checkFiles(); err != nil {
		return bad("%w", err)
	}
	if c := s.Script; c != nil {
		switch {
		case c.Text == "" || len(c.Text) > maxScript || strings.ContainsRune(c.Text, 0):
			return bad("script of %d bytes: want 1 to %d, none of them zero", len(c.Text), maxScript)
		case c.Timeout < 0 || c.Timeout > MaxTimeout:
			return bad("script: timeout %d is not between 0 and %d seconds", c.Timeout, MaxTimeout)
		case c.OnFailure != "" && c.OnFailure != Continue && c.OnFailure != Stop:
			return bad("script: on_failure is %q: want %s or %s", c.OnFailure, Continue, Stop)
		}
	}
	return nil
}

func (s *Settings) checkKeys() error {
	if len(s.SSHKeys) > maxUsers {
		return fmt.Errorf("ssh_keys: %d users, at most %d are allowed", len(s.SSHKeys), maxUsers)
	}
	for user, keys := range s.SSHKeys {
		if user == "" || !word(user, "") || strings.HasPrefix(user, "-") {
			return fmt.Errorf("ssh_keys: user %q", user)
		}
		if len(keys) > maxKeys {
			return fmt.Errorf("ssh_keys of %s: %d keys, at most %d are allowed", user, len(keys), maxKeys)
		}
		for _, k := range keys {
			if strings.TrimSpace(k) == "" || !Line(k, maxKey) {
				return fmt.Errorf("ssh_keys of %s: a key is no line of authorized_keys", user)
			}
		}
	}
	return nil
}

func (s *Settings) checkEnvironment() error {
	if len(s.Environment) > maxEnvironment {
		return fmt.Errorf("environment: %d variables, at most %d are allowed", len(s.Environment), maxEnvironment)
	}
	for name, value := range s.Environment {
		if !VariableName(name) {
			return fmt.Errorf("environment: name %q", name)
		}
		if name == "" || len(name) > maxText || !Line(value, maxValue) {
			return fmt.Errorf("environment: %s has no name, a long value, or characters that are not printable", name)
		}
	}
	return nil
}

func (s *Settings) checkFiles() error {
	if len(s.Files) > maxFiles {
		return fmt.Errorf("%d files, at most %d are allowed", len(s.Files), maxFiles)
	}
	seen := make(map[string]bool)
	for i := range s.Files {
		f := &s.Files[i]
		switch {
		case len(f.Path) < 2 || len(f.Path) > maxPath || f.Path[0] != '/' || path.Clean(f.Path) != f.Path || strings.ContainsRune(f.Path, 0):
			return fmt.Errorf("file %q: want an absolute path", f.Path)
		case seen[f.Path]:
			return fmt.Errorf("file %s stands twice", f.Path)
		case f.Text != "" && f.Base64 != "" || f.Expand && f.Base64 != "":
			return fmt.Errorf("file %s has text and base64", f.Path)
		case f.Remove && (f.Text != "" || f.Base64 != "" || f.Append):
			return fmt.Errorf("file %s is removed, but has a content", f.Path)
		case !word(f.Owner, "") || !word(f.Group, ""):
			return fmt.Errorf("file %s: owner %q, group %q", f.Path, f.Owner, f.Group)
		}
		if _, ok := f.Perm(); !ok && f.Mode != "" {
			return fmt.Errorf("file %s: mode %q is not octal", f.Path, f.Mode)
		}
		if _, err := f.Content(); err != nil {
			return err
		}
		if f.Expand {
			if err := (Facts{}).check(f.Text); err != nil {
				return fmt.Errorf("file %s: %w", f.Path, err)
			}
		}
		seen[f.Path] = true
	}
	return nil
}

// word tells whether s has nothing but letters, digits, ._+- and more.
func word(s, more string) bool {
	if len(s) > maxText {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._+-"+more, rune(c)) {
			return false
		}
	}
	return true
}

// VariableName tells whether all of s can stand in the name of a variable of a
// shell (POSIX.1-2017, Base Definitions 3.235), which is true of nothing at all.
func VariableName(s string) bool {
	for i, c := range []byte(s) {
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// Line tells whether s is one line of text, of at most limit bytes.
func Line(s string, limit int) bool {
	if len(s) > limit || !utf8.ValidString(s) {
		return false
	}
	for _, c := range s {
		if !unicode.IsPrint(c) && c != '\t' {
			return false
		}
	}
	return true
}
