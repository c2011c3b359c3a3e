package bootscript

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// machine writes down what it is told. What boots always fails.
type machine struct {
	log     []string
	choice  string
	network error
}

var errBoot = errors.New("it does not start")

func (m *machine) say(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}
func (m *machine) Print(line string) { m.say("print %s", line) }
func (m *machine) Fact(name string) string {
	return map[string]string{"arch": "amd64", "memory": "512"}[name]
}
func (m *machine) Network(context.Context) error { m.say("network"); return m.network }
func (m *machine) End(_ context.Context, action string) error {
	m.say("end %s", action)
	return errBoot
}

func (m *machine) Choose(ctx context.Context, menu Menu) (string, error) {
	m.say("choose %+v", menu)
	if m.choice == "" { // nobody is there
		if menu.Timeout < 0 {
			<-ctx.Done()
			return "", context.Cause(ctx)
		}
		time.Sleep(time.Duration(menu.Timeout) * time.Second)
		return menu.Default, nil
	}
	return m.choice, nil
}

func (m *machine) Boot(ctx context.Context, b Boot) error {
	_, limited := ctx.Deadline()
	m.say("boot %+v limited=%v", b, limited)
	return errBoot
}

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		m            machine
		want         []string
		err          string // "": none
	}{
		{"echo and variables", "# comment\necho a  \"b  c\" ${x}.${arch}\nset x 1 2\necho ${x}${x} \"||\"\r\n\techo\n", machine{},
			[]string{"print a b  c .amd64", "print 1 21 2 ||", "print "}, ""},
		{"values are not parsed", "set x \"|| reboot ${memory}\"\nset y ${x}\necho ${y}", machine{}, []string{"print || reboot 512"}, ""},
		{"conditions", strings.Join([]string{
			"isset ${x} && echo no || echo yes", "set x 1", "isset ${x} && echo yes || echo no",
			"iseq ${arch} arm64 && echo no", "iseq ${arch} amd64 && iseq a a && echo yes", "isset \"\" || iseq a b || echo yes", "isset ${y}", "echo end",
		}, "\n"), machine{}, []string{"print yes", "print yes", "print yes", "print yes", "print end"}, ""},
		{"goto", "goto b\n:a\necho a\nexit\necho no\n:b\necho b\nset l a\ngoto ${l}", machine{}, []string{"print b", "print a"}, ""},
		{"label at the end", "goto end\necho no\n:end", machine{}, nil, ""},
		{"goto nowhere", "echo 1\ngoto ${l}", machine{}, []string{"print 1"}, `line 3: goto: there is no label ""`},
		{"no network", "network 5 || echo none\nnetwork\necho no", machine{network: errors.New("no cable")}, []string{"network", "print none", "network"}, "line 3: network: no cable"},
		{"forgiven", "network ||\necho yes", machine{network: errors.New("no cable")}, []string{"network", "print yes"}, ""},
		{"menu", "menu Our systems\nitem a The first\nitem b \"The second\"\nchoose --default b --timeout 5 what\necho ${what}", machine{},
			[]string{"choose {Title:Our systems Items:[{ID:a Title:The first} {ID:b Title:The second}] Default:b Timeout:5}", "print b"}, ""},
		{"menu with a choice", "menu M\nitem a A\nitem b B\nchoose what\necho ${what}", machine{choice: "b"},
			[]string{"choose {Title:M Items:[{ID:a Title:A} {ID:b Title:B}] Default:a Timeout:-1}", "print b"}, ""},
		{"menu anew", "menu M\nitem a A\nmenu N\nchoose what", machine{}, nil, "line 5: choose: the menu has no items"},
		{"wrong default", "menu M\nitem a A\nchoose --default b what", machine{}, nil, `line 4: choose: the menu has no item "b"`},
		{"same item", "item a A\nitem a B", machine{}, nil, "line 3: item: the menu has two items a"},
		{"bad number", "set n x\nsleep ${n}", machine{}, nil, `line 3: sleep: "x" is no number of seconds from 0 to 86400`},
		{"boot entry", "boot tiny-1 single a=\"b c\" || echo failed", machine{}, []string{`boot {Entry:tiny-1 Kernel: Initrds:[] Cmdline:single a=b c} limited=false`, "print failed"}, ""},
		{"boot fails", "boot tiny-1\necho no", machine{}, []string{`boot {Entry:tiny-1 Kernel: Initrds:[] Cmdline:} limited=false`}, "line 2: boot: it does not start"},
		{"boot kernel", "kernel images/a/1/amd64.json x=${memory} y\ninitrd b\nmodule images/c/1/amd64.json\nboot ||", machine{},
			[]string{"boot {Entry: Kernel:images/a/1/amd64.json Initrds:[b images/c/1/amd64.json] Cmdline:x=512 y} limited=false"}, ""},
		{"kernel forgets initrds", "kernel a\ninitrd b\nkernel c\nboot ||", machine{}, []string{"boot {Entry: Kernel:c Initrds:[] Cmdline:} limited=false"}, ""},
		{"no kernel", "initrd a || echo none\nboot", machine{}, []string{"print none"}, "line 3: boot: there is no kernel yet, and no entry of the menu is named"},
		{"no image", "kernel ../a", machine{}, nil, `line 2: kernel: "../a" is no name of an image, such as images/tool/1/amd64.json`},
		{"ends", "reboot || poweroff ||\nlocal-disk", machine{}, []string{"end reboot", "end poweroff", "end local-disk"}, "line 3: local-disk: it does not start"},
		{"growth", "set x aaaaaaaa\n:a\nset x ${x}${x}\ngoto a", machine{}, nil, "line 4: set: a word of more than 4096 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Parse([]byte(firstLine + "\n" + tt.script))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				err = p.Run(t.Context(), &tt.m, time.Minute)
			})
			if got := text(err); got != tt.err {
				t.Errorf("Run = %q; want %q", got, tt.err)
			}
			if diff := cmp.Diff(tt.want, tt.m.log); diff != "" {
				t.Errorf("the machine was told (-want +got):\n%s", diff)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A script ends after its time, whatever it does.
func TestTimeLimit(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		took         time.Duration
	}{
		{"sleep", "sleep 30\nsleep 3600 ||\necho no", time.Minute},
		{"person", "item a A\nchoose x ||\necho no", time.Minute},
		{"loop", ":a\ngoto a", 0},
		{"loop that forgives", ":a\nsleep 1 && goto a ||\necho no", time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Parse([]byte(firstLine + "\n" + tt.script))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				var m machine
				begin := time.Now()
				if err := p.Run(t.Context(), &m, time.Minute); !errors.Is(err, ErrTime) {
					t.Errorf("Run = %v; want ErrTime", err)
				}
				if took := time.Since(begin); took != tt.took {
					t.Errorf("Run took %s; want %s", took, tt.took)
				}
				for _, l := range m.log {
					if strings.HasPrefix(l, "print") {
						t.Errorf("it went on after its time: %s", l)
					}
				}
			})
		})
	}
	p, err := Parse([]byte(firstLine + "\nsleep 5 ||\necho no"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx, &machine{}, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("Run with an ended context = %v; want context.Canceled", err)
	}
}

func TestMalformed(t *testing.T) {
	for _, tt := range []struct{ script, want string }{
		{"", "the script is malformed: it is empty"},
		{"#!ipxe\n", "line 1: the script is malformed: the first line has to be #!inetboot"},
		{firstLine + "\n\xff", "the script is malformed: it is not UTF-8"},
		{firstLine + strings.Repeat("\n", MaxSize), "the script is malformed: it has 65546 bytes, at most 65536 are allowed"},
		{firstLine + "\necho \x1b[2J", "line 2: the script is malformed: the character U+001B cannot be shown"},
		{firstLine + "\n\nshell", `line 3: the script is malformed: there is no command "shell"`},
		{firstLine + "\n\"\"", `line 2: the script is malformed: there is no command ""`},
		{firstLine + "\niseq a", "line 2: the script is malformed: iseq has 1 arguments; usage: iseq A B"},
		{firstLine + "\nexit 1", "line 2: the script is malformed: exit has 1 arguments; usage: exit"},
		{firstLine + "\necho \"a", `line 2: the script is malformed: a " has no other end`},
		{firstLine + "\necho ${a b}", "line 2: the script is malformed: \"${a\" is no ${NAME}"},
		{firstLine + "\necho ${}", "line 2: the script is malformed: \"${}\" is no ${NAME}"},
		{firstLine + "\nset ${a} b", "line 2: the script is malformed: set: the name of the variable has to be letters, digits, - _ and ."},
		{firstLine + "\nset arch b", "line 2: the script is malformed: set: arch says what the machine is like and cannot be set"},
		{firstLine + "\nchoose --timeout 5", "line 2: the script is malformed: choose: the name of a variable is missing behind the options"},
		{firstLine + "\nchoose --back 5 x", "line 2: the script is malformed: choose: the options are --default ID and --timeout SECONDS"},
		{firstLine + "\ngoto a\n:b", `line 2: the script is malformed: there is no label "a"`},
		{firstLine + "\n:a\n:a", "line 3: the script is malformed: the label a stands twice"},
		{firstLine + "\n:a b", `line 2: the script is malformed: "a b" is no name of a label`},
		{firstLine + "\n&& echo", "line 2: the script is malformed: no command in front of &&"},
		{firstLine + "\n||", "line 2: the script is malformed: no command in front of ||"},
		{firstLine + "\necho a &&", "line 2: the script is malformed: no command at the end of the line"},
		{firstLine + "\necho" + strings.Repeat(" a", maxWords), "line 2: the script is malformed: 65 words in a line, at most 64 are allowed"},
	} {
		_, err := Parse([]byte(tt.script))
		if !errors.Is(err, ErrSyntax) || err.Error() != tt.want {
			t.Errorf("Parse(%.40q) = %v; want %s", tt.script, err, tt.want)
		}
	}
}

// What can be parsed can be run, ends, and tells the machine nothing that
// consoles would act on.
func FuzzScript(f *testing.F) {
	for _, s := range []string{
		"echo a ${b}\nset b c\n:l\nisset ${b} && goto l || exit",
		"menu M\nitem a A\nchoose --default a --timeout 0 x\niseq ${x} a && boot ${x} quiet ||\nreboot",
		"kernel a b=\"c d\"\ninitrd b\nnetwork 1 ||\nboot",
	} {
		f.Add([]byte(firstLine + "\n" + s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrSyntax) {
				t.Fatalf("Parse = %v; want ErrSyntax", err)
			}
			return
		}
		m := &machine{choice: "a"}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err = p.Run(ctx, m, 50*time.Millisecond)
		var at *Error
		if err != nil && !errors.As(err, &at) {
			t.Fatalf("Run = %v; want an *Error", err)
		}
		for _, l := range m.log {
			if strings.ContainsAny(l, "\x00\x1b\r\n") {
				t.Fatalf("the machine was told %q", l)
			}
		}
	})
}
