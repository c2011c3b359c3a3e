package bootscript

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// firstLine tells a script from other files.
const firstLine = "#!inetboot"

// Program is a script that can be run.
type Program struct {
	lines  []line
	labels map[string]int // index of the line that follows
}

// line is a chain of commands.
type line struct {
	number  int
	chain   []step
	forgive bool // ends with ||: its failure does not matter
}

// step is one command of a chain.
type step struct {
	after operator // that stands in front of it
	name  string
	args  []word
}

type operator int

const (
	always  operator = iota
	ifDone           // &&
	ifFails          // ||
)

// word is text with variables in it, in order.
type word []piece

type piece struct {
	text     string
	variable bool // text is the name of one
}

// Parse reads a script.
func Parse(data []byte) (*Program, error) {
	switch {
	case len(data) > MaxSize:
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrSyntax, len(data), MaxSize)
	case !utf8.Valid(data):
		return nil, fmt.Errorf("%w: it is not UTF-8", ErrSyntax)
	}
	p := &Program{labels: make(map[string]int)}
	number := 0
	for text := range strings.Lines(string(data)) {
		number++
		text = strings.TrimRight(text, "\r\n")
		err := p.add(number, text)
		if err != nil {
			return nil, &Error{number, fmt.Errorf("%w: %w", ErrSyntax, err)}
		}
	}
	if number == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrSyntax)
	}
	return p, p.checkLabels()
}

// add takes one line, without its end.
func (p *Program) add(number int, text string) error {
	if number == 1 {
		if strings.TrimRight(text, " \t") != firstLine {
			return fmt.Errorf("the first line has to be %s", firstLine)
		}
		return nil
	}
	for _, r := range text {
		if r != '\t' && !unicode.IsPrint(r) {
			return fmt.Errorf("the character %U cannot be shown", r)
		}
	}
	text = strings.TrimSpace(text)
	if text == "" || text[0] == '#' {
		return nil
	}
	if label, ok := strings.CutPrefix(text, ":"); ok {
		if !validName(label) {
			return fmt.Errorf("%q is no name of a label", label)
		}
		if _, twice := p.labels[label]; twice {
			return fmt.Errorf("the label %s stands twice", label)
		}
		p.labels[label] = len(p.lines)
		return nil
	}
	words, err := split(text)
	if err != nil {
		return err
	}
	forgive := false
	if last := len(words) - 1; last > 0 && words[last].is("||") {
		words, forgive = words[:last], true
	}
	chain, err := parseChain(words)
	if err != nil {
		return err
	}
	p.lines = append(p.lines, line{number, chain, forgive})
	return nil
}

// checkLabels looks for labels that are gone to and do not exist. Those with
// variables in their names are known only later.
func (p *Program) checkLabels() error {
	for _, l := range p.lines {
		for _, s := range l.chain {
			if s.name != "goto" {
				continue
			}
			name, ok := s.args[0].literal()
			if _, found := p.labels[name]; ok && !found {
				return &Error{l.number, fmt.Errorf("%w: there is no label %q", ErrSyntax, name)}
			}
		}
	}
	return nil
}

// token is a word as it stands in a line.
type token struct {
	text   string
	quoted bool // has quotes: no operator
}

// is tells whether t is the operator op.
func (t token) is(op string) bool { return !t.quoted && t.text == op }

// split cuts a line at white space outside of double quotes, which it removes.
func split(text string) ([]token, error) {
	var out []token
	var b strings.Builder
	open, begun, quoted := false, false, false
	end := func() {
		if begun {
			out = append(out, token{b.String(), quoted})
		}
		b.Reset()
		begun, quoted = false, false
	}
	for _, r := range text {
		switch {
		case r == '"':
			open, begun, quoted = !open, true, true
		case !open && (r == ' ' || r == '\t'):
			end()
		default:
			b.WriteRune(r)
			begun = true
		}
	}
	if open {
		return nil, errors.New(`a " has no other end`)
	}
	end()
	if len(out) > maxWords {
		return nil, fmt.Errorf("%d words in a line, at most %d are allowed", len(out), maxWords)
	}
	return out, nil
}

func parseChain(words []token) ([]step, error) {
	var chain []step
	after := always
	for len(words) > 0 {
		n := slices.IndexFunc(words, func(w token) bool { return w.is("&&") || w.is("||") })
		if n < 0 {
			n = len(words)
		}
		if n == 0 {
			return nil, fmt.Errorf("no command in front of %s", words[0].text)
		}
		s, err := parseStep(words[0].text, words[1:n])
		if err != nil {
			return nil, err
		}
		s.after = after
		chain = append(chain, *s)
		if n == len(words) {
			return chain, nil
		}
		if after = ifDone; words[n].text == "||" {
			after = ifFails
		}
		if words = words[n+1:]; len(words) == 0 {
			return nil, errors.New("no command at the end of the line")
		}
	}
	return chain, nil
}

func parseStep(name string, args []token) (*step, error) {
	c, ok := commands()[name]
	if !ok {
		return nil, fmt.Errorf("there is no command %q", name)
	}
	if len(args) < c.least || c.most >= 0 && len(args) > c.most {
		return nil, fmt.Errorf("%s has %d arguments; usage: %s", name, len(args), strings.TrimSpace(name+" "+c.usage))
	}
	s := &step{name: name}
	for _, a := range args {
		w, err := parseWord(a.text)
		if err != nil {
			return nil, err
		}
		s.args = append(s.args, w)
	}
	if c.check == nil {
		return s, nil
	}
	if err := c.check(s.args); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// parseWord finds the variables, ${NAME}.
func parseWord(text string) (word, error) {
	w := word{}
	for {
		before, rest, ok := strings.Cut(text, "${")
		if before != "" {
			w = append(w, piece{before, false})
		}
		if !ok {
			return w, nil
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok || !validName(name) {
			return nil, fmt.Errorf("%q is no ${NAME}", "${"+rest)
		}
		w = append(w, piece{name, true})
		text = after
	}
}

// literal returns the text of a word without variables.
func (w word) literal() (string, bool) {
	switch {
	case len(w) == 0:
		return "", true
	case len(w) == 1 && !w[0].variable:
		return w[0].text, true
	}
	return "", false
}

// validName tells whether variables, labels and menu items may have the name.
func validName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}

// checkVariable returns an error unless w can be the name of a variable that
// is set.
func checkVariable(w word) error {
	name, ok := w.literal()
	switch {
	case !ok || !validName(name):
		return errors.New("the name of the variable has to be letters, digits, - _ and .")
	case slices.Contains(Facts(), name):
		return fmt.Errorf("%s says what the machine is like and cannot be set", name)
	}
	return nil
}

// number reads seconds.
func number(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > maxSleep {
		return 0, fmt.Errorf("%q is no number of seconds from 0 to %d", s, maxSleep)
	}
	return n, nil
}
