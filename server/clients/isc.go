package clients

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// ParseISC reads the host declarations of a configuration of ISC dhcpd
// (dhcpd.conf(5)): name, hardware ethernet, fixed-address, option host-name and
// filename, also inside of groups and other blocks. Hosts inside of a group with
// a name belong to it. All else is passed over.
func ParseISC(name string, data []byte) ([]Section, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrInvalid, name, MaxFile)
	}
	p := iscParser{lexer: iscLexer{data: data, line: 1}, file: name}
	if err := p.run(); err != nil {
		return nil, fmt.Errorf("%w: %s:%d: %w", ErrInvalid, name, p.lexer.line, err)
	}
	return p.out, nil
}

// iscDepth bounds how deep blocks may nest.
const iscDepth = 32

type iscBlock struct {
	host  *Section // nil outside of a host
	name  string   // of the host
	group string
}

type iscParser struct {
	lexer  iscLexer
	file   string
	out    []Section
	groups map[string]bool
}

func (p *iscParser) run() error {
	stack := []iscBlock{{}}
	p.groups = make(map[string]bool)
	var words []string
	for {
		tok, quoted, err := p.lexer.next()
		if err != nil {
			return err
		}
		top := &stack[len(stack)-1]
		switch {
		case tok == "" && !quoted:
			if len(stack) > 1 {
				return errors.New("the file ends inside of a block: } is missing")
			}
			if len(words) > 0 {
				return fmt.Errorf("the file ends inside of %q: ; is missing", words[0])
			}
			return nil
		case tok == "{" && !quoted:
			if len(stack) == iscDepth {
				return fmt.Errorf("blocks nest deeper than %d", iscDepth)
			}
			next := iscBlock{host: top.host, name: top.name, group: top.group}
			switch {
			case len(words) == 2 && strings.EqualFold(words[0], "host"):
				if top.host != nil {
					return fmt.Errorf("host %s stands inside of host %s", words[1], top.name)
				}
				next.host, next.name = &Section{Kind: Client, File: p.file, Line: p.lexer.line}, strings.ToLower(words[1])
			case len(words) == 2 && strings.EqualFold(words[0], "group") && wordOK(words[1]):
				next.group = words[1]
			}
			stack, words = append(stack, next), nil
		case tok == "}" && !quoted:
			if len(stack) == 1 {
				return errors.New("} without a {")
			}
			if len(words) > 0 {
				return fmt.Errorf("; is missing behind %q", words[0])
			}
			stack = stack[:len(stack)-1]
			if top.host != nil && stack[len(stack)-1].host == nil {
				if err := p.add(top); err != nil {
					return err
				}
			}
		case tok == ";" && !quoted:
			if top.host != nil {
				if err := p.statement(top, words); err != nil {
					return err
				}
			}
			words = nil
		default:
			if len(words) < 64 {
				words = append(words, tok)
			}
		}
	}
}

func (p *iscParser) statement(b *iscBlock, w []string) error {
	low := make([]string, len(w))
	for i := range w {
		low[i] = strings.ToLower(w[i])
	}
	switch {
	case len(w) == 3 && low[0] == "hardware" && low[1] == "ethernet":
		mac, ok := ParseMAC(padMAC(w[2]))
		if !ok {
			return fmt.Errorf("host %s: hardware ethernet %s is no MAC address", b.name, w[2])
		}
		b.host.Name = mac
	case len(w) == 2 && low[0] == "fixed-address":
		a, err := netip.ParseAddr(w[1])
		if err == nil && a.Is4() {
			b.host.Set("address", a.String())
		} // else a name, which ISC dhcpd looks up itself
	case len(w) == 3 && low[0] == "option" && low[1] == "host-name":
		b.host.Set("name", low[2])
	case len(w) == 2 && low[0] == "filename":
		b.host.Set("file", strings.TrimPrefix(w[1], "/"))
	}
	return nil
}

func (p *iscParser) add(b *iscBlock) error {
	s := b.host
	if s.Name == "" {
		return fmt.Errorf("host %s has no hardware ethernet", b.name)
	}
	if _, named := s.Get("name"); !named && hostOK(b.name) {
		s.Set("name", b.name)
	}
	if b.group != "" {
		s.Set("group", b.group)
		if !p.groups[b.group] {
			p.groups[b.group] = true
			p.out = append(p.out, Section{Kind: Group, Name: b.group, File: p.file, Line: s.Line})
		}
	}
	for _, v := range s.Values {
		if err := checkValue(Client, s.Name, v); err != nil {
			return fmt.Errorf("host %s: %w", b.name, err)
		}
	}
	if len(p.out) >= maxSections {
		return fmt.Errorf("more than %d hosts", maxSections)
	}
	p.out = append(p.out, *s)
	return nil
}

// padMAC writes 0:1:2:a:b:c, which dhcpd takes, with two digits for each byte.
func padMAC(s string) string {
	f := strings.Split(s, ":")
	if len(f) != 6 {
		return s
	}
	for i := range f {
		if len(f[i]) == 1 {
			f[i] = "0" + f[i]
		}
	}
	return strings.Join(f, ":")
}

type iscLexer struct {
	data []byte
	line int
}

// next returns the next word, or one of { } ;, or "" at the end. Words in
// quotes are quoted.
func (l *iscLexer) next() (tok string, quoted bool, err error) {
	for len(l.data) > 0 {
		switch c := l.data[0]; {
		case c == '\n':
			l.line++
			l.data = l.data[1:]
		case c <= ' ':
			l.data = l.data[1:]
		case c == '#':
			i := 0
			for i < len(l.data) && l.data[i] != '\n' {
				i++
			}
			l.data = l.data[i:]
		case c == '{' || c == '}' || c == ';':
			l.data = l.data[1:]
			return string(c), false, nil
		case c == '"':
			return l.quoted()
		default:
			i := 0
			for i < len(l.data) && l.data[i] > ' ' && !strings.ContainsRune("{};\"#", rune(l.data[i])) {
				i++
			}
			tok = string(l.data[:i])
			l.data = l.data[i:]
			return tok, false, nil
		}
	}
	return "", false, nil
}

func (l *iscLexer) quoted() (string, bool, error) {
	var out []byte
	for i := 1; i < len(l.data); i++ {
		switch c := l.data[i]; c {
		case '"':
			l.data = l.data[i+1:]
			return string(out), true, nil
		case '\n':
			return "", true, errors.New("a quoted text does not end on its line")
		case '\\':
			if i+1 < len(l.data) {
				i++
				out = append(out, l.data[i])
			}
		default:
			out = append(out, c)
		}
	}
	return "", true, errors.New("a quoted text does not end")
}

// FormatISC writes the clients that have a MAC address as host declarations.
func FormatISC(list []Section) []byte {
	var b strings.Builder
	for _, s := range list {
		if _, ok := ParseMAC(s.Name); !ok || s.Kind != Client {
			continue
		}
		name, ok := s.Get("name")
		label := name
		if !ok {
			label = "client-" + strings.ReplaceAll(s.Name, ":", "")
		}
		fmt.Fprintf(&b, "host %s {\n  hardware ethernet %s;\n", label, s.Name)
		if a, ok := s.Get("address"); ok {
			fmt.Fprintf(&b, "  fixed-address %s;\n", a)
		}
		if ok {
			fmt.Fprintf(&b, "  option host-name \"%s\";\n", name)
		}
		if f, ok := s.Get("file"); ok && f != "" {
			fmt.Fprintf(&b, "  filename \"%s\";\n", strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(f))
		}
		b.WriteString("}\n")
	}
	return []byte(b.String())
}
