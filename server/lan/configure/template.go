package configure

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Bounds of templates.
const (
	maxTemplateFile = 1 << 20
	maxOutput       = 32 << 20
	maxDepth        = 8
	maxNetworks     = 256
	includeCost     = 4 << 10 // what a file that is taken in counts for at least
)

//go:embed templates
var builtin embed.FS

// ErrTemplate is wrapped by errors in templates.
var ErrTemplate = errors.New("template")

// Template is texts in which $KEY stands for a value and a line @NAME for the
// contents of a file or a part that the program makes. Its folders network0,
// network1 … hold what is particular to a network.
type Template struct {
	format Format
	files  fs.FS // nil: only what is built in
	text   string
	set    map[string]string
}

// MainFile is the name of a format's template, NetworkFile of that which is
// rendered for each network.
func MainFile(f Format) string {
	switch f {
	case ISC:
		return "dhcpd.conf"
	case Dnsmasq:
		return "dnsmasq.conf"
	}
	return "kea-dhcp4.conf"
}

// NetworkFile is the name of the template for each network.
const NetworkFile = "network.conf"

// Builtin returns a template that is built in: MainFile or NetworkFile.
func Builtin(f Format, name string) (string, error) {
	b, err := builtin.ReadFile("templates/" + string(f) + "/" + name)
	if err != nil {
		return "", fmt.Errorf("%w: %s has none of the name %q: there are %s and %s", ErrTemplate, f, name, MainFile(f), NetworkFile)
	}
	return string(b), nil
}

// OpenTemplate opens a file or folder; "" is the template that is built in. set
// are values that go over its own.
func OpenTemplate(f Format, path string, set map[string]string) (*Template, error) {
	t := &Template{format: f, set: set}
	if path == "" {
		return t, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTemplate, err)
	}
	if !info.IsDir() {
		in, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrTemplate, err)
		}
		defer in.Close()
		if t.text, err = readBounded(in, path); err == nil && t.text == "" {
			err = fmt.Errorf("%w: %s is empty", ErrTemplate, path)
		}
		return t, err
	}
	// Confined: a template of somebody else's reads no files of this machine.
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTemplate, err)
	}
	t.files = root.FS()
	return t, nil
}

func readBounded(r io.Reader, name string) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxTemplateFile+1))
	if err != nil {
		return "", fmt.Errorf("%w: read %s: %w", ErrTemplate, name, err)
	}
	if len(b) > maxTemplateFile {
		return "", fmt.Errorf("%w: %s has more than %d bytes", ErrTemplate, name, maxTemplateFile)
	}
	return string(b), nil
}

// read returns a file of the template's folder.
func (t *Template) read(name string) (string, bool, error) {
	if t.files == nil || !fs.ValidPath(name) {
		return "", false, nil
	}
	f, err := t.files.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("%w: %w", ErrTemplate, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", false, err
	}
	text, err := readBounded(f, name)
	return text, err == nil, err
}

// values reads a file of lines KEY=VALUE.
func (t *Template) values(name string) (map[string]string, error) {
	text, _, err := t.read(name)
	if err != nil {
		return nil, err
	}
	m := map[string]string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		k, v, ok := strings.Cut(line, "=")
		if k = strings.TrimSpace(k); !ok || !keyOK(k) {
			return nil, fmt.Errorf("%w: %s:%d: want KEY=VALUE, with a key of capital letters, digits and _", ErrTemplate, name, n)
		}
		m[k] = strings.TrimSpace(v)
	}
	return m, nil
}

func keyOK(s string) bool { return keyName.MatchString(s) }

var (
	keyName   = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	keyUse    = regexp.MustCompile(`\$(\$|\{[A-Z][A-Z0-9_]*\}|[A-Z][A-Z0-9_]*)?`)
	partUse   = regexp.MustCompile(`^([ \t]*)@([A-Za-z0-9][A-Za-z0-9._/-]*)[ \t]*$`)
	networkOf = regexp.MustCompile(`^network([0-9]|[1-9][0-9]+)$`)
)

// scope is where a text is rendered: in the whole, or in a network.
type scope struct {
	folder string              // "network3", or ""
	values []map[string]string // the first that has a key counts
	parts  map[string]func() (string, error)
	used   int
}

// render replaces what there is to replace in a text. name is for errors.
func (t *Template) render(s *scope, name, text string, depth int) (string, error) {
	if depth > maxDepth {
		return "", fmt.Errorf("%w: %s: files that take in files, more than %d deep", ErrTemplate, name, maxDepth)
	}
	var out strings.Builder
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		at := fmt.Sprintf("%s:%d", name, n)
		if m := partUse.FindStringSubmatch(line); m != nil {
			s.used += includeCost
			body, err := t.part(s, at, m[2], depth)
			if err != nil {
				return "", err
			}
			for l := range strings.Lines(body) {
				if l = strings.TrimRight(l, "\n"); l != "" {
					out.WriteString(m[1] + l)
				}
				out.WriteByte('\n')
			}
		} else {
			l, err := t.replace(s, at, line)
			if err != nil {
				return "", err
			}
			out.WriteString(l + "\n")
		}
		if s.used += len(line); out.Len() > maxOutput || s.used > maxOutput {
			return "", fmt.Errorf("%w: %s: more than %d bytes come out", ErrTemplate, at, maxOutput)
		}
	}
	return out.String(), nil
}

func (s *scope) value(key string) (string, bool) {
	for _, m := range s.values {
		if v, ok := m[key]; ok {
			return v, true
		}
	}
	return "", false
}

func (t *Template) replace(s *scope, at, line string) (string, error) {
	var err error
	out := keyUse.ReplaceAllStringFunc(line, func(use string) string {
		key := strings.Trim(use, "${}")
		if use == "$$" {
			return "$"
		}
		if key == "" {
			err = errors.Join(err, fmt.Errorf("%w: %s: a $ without a KEY of capital letters; write $$ for a $", ErrTemplate, at))
			return ""
		}
		v, ok := s.value(key)
		if !ok {
			err = errors.Join(err, fmt.Errorf("%w: %s: $%s has no value: there are %s; give one by --set %s=VALUE or in the file values", ErrTemplate, at, key, strings.Join(s.keys(), ", "), key))
			return ""
		}
		v, verr := quoteValue(t.format, v)
		if verr != nil {
			err = errors.Join(err, fmt.Errorf("%w: %s: $%s: %w", ErrTemplate, at, key, verr))
		}
		return v
	})
	return out, err
}

func (s *scope) keys() []string {
	var out []string
	for _, m := range s.values {
		for k := range m {
			if !slices.Contains(out, k) {
				out = append(out, k)
			}
		}
	}
	slices.Sort(out)
	return out
}

// part returns the contents of a file, of the network's folder before the
// template's, else a part that the program makes, else of the file that a value
// names.
func (t *Template) part(s *scope, at, name string, depth int) (string, error) {
	names := []string{name}
	for try := 0; ; try++ {
		if s.folder != "" {
			names = append([]string{s.folder + "/" + name}, names...)
		}
		for _, n := range names {
			text, ok, err := t.read(n)
			if err != nil {
				return "", fmt.Errorf("%s: %w", at, err)
			}
			if ok {
				return t.render(s, n, text, depth+1)
			}
		}
		if f := s.parts[name]; f != nil {
			return f()
		}
		v, ok := s.value(name)
		if !ok || try > 0 {
			return "", fmt.Errorf("%w: %s: @%s is neither a file of the template's folder nor one of the parts %s", ErrTemplate, at, name, strings.Join(partNames(s), ", "))
		}
		name, names = v, []string{v}
	}
}

func partNames(s *scope) []string {
	var out []string
	for k := range s.parts {
		out = append(out, "@"+k)
	}
	slices.Sort(out)
	return out
}

// quoteValue returns v as it may stand in a format, bare or between quotes.
func quoteValue(f Format, v string) (string, error) {
	bad := "\"\\{};#"
	switch f {
	case Kea:
		bad = "\"\\{}[]#"
	case Dnsmasq:
		bad = "\"\\#"
	}
	if i := strings.IndexFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd || strings.ContainsRune(bad, r) }); i >= 0 {
		return "", fmt.Errorf("the value %q has a character that is not taken into the configuration, %q: put texts into files, as @FILE", v, v[i])
	}
	return v, nil
}

// networkFolders returns how many folders network0, network1 … there are.
func (t *Template) networkFolders() (int, error) {
	if t.files == nil {
		return 0, nil
	}
	list, err := fs.ReadDir(t.files, ".")
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrTemplate, err)
	}
	have := map[string]bool{}
	for _, e := range list {
		if e.IsDir() && networkOf.MatchString(e.Name()) {
			have[e.Name()] = true
		}
	}
	for i := range len(have) {
		if !have[fmt.Sprint("network", i)] {
			return 0, fmt.Errorf("%w: there are %d folders of networks, but no network%d: they are counted from network0", ErrTemplate, len(have), i)
		}
	}
	if len(have) > maxNetworks {
		return 0, fmt.Errorf("%w: %d networks; at most %d", ErrTemplate, len(have), maxNetworks)
	}
	return len(have), nil
}
