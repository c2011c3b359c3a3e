package command_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/imagetool/command"
)

// bashComplete returns what bash offers when Tab is pressed at the end of a
// line.
const bashComplete = `
source /usr/share/bash-completion/bash_completion
source <(imagetool completion bash)
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_KEY=9
read -ra COMP_WORDS <<<"$1"
[[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
compopt() { :; }                 # there is no line that is being edited
$(complete -p imagetool | sed 's/.*-F \([^ ]*\).*/\1/') imagetool "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
`

// Completion in the real shells.
func TestCompletion(t *testing.T) {
	c := newTool(t)
	bin := t.TempDir()
	build(t, filepath.Join(bin, "imagetool"))
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", filepath.Join(t.TempDir(), "store"))
	pub := filepath.Join(t.TempDir(), "erin.pub")
	c.run(command.ExitOK, "key", "new", "erin", "--no-passphrase")
	c.run(command.ExitOK, "key", "export", "erin", "-o", pub)
	c.run(command.ExitOK, "publisher", "add", "erin", "--prefix", "erin-", "--key", pub)
	c.run(command.ExitOK, "mirrors", "add", "https://m.example.org/a")
	for _, tc := range []struct {
		line string
		want []string // all that is offered; nil: something else
		has  []string
		not  []string
	}{
		{line: "imagetool pub", want: []string{"publisher"}},
		{line: "imagetool key ", has: []string{"list", "rotate", "threshold", "export"}},
		{line: "imagetool key rotate ", want: []string{"erin", "root", "snapshot", "targets", "timestamp"}},
		{line: "imagetool key rotate root t", want: []string{"targets", "timestamp"}},
		{line: "imagetool key passphrase ", want: []string{"erin", "root", "snapshot", "targets", "timestamp"}},
		{line: "imagetool key passphrase root ", want: []string{}},
		{line: "imagetool publisher rm ", want: []string{"erin"}},
		{line: "imagetool mirrors remove h", want: []string{"https://m.example.org/a"}},
		{line: "imagetool menu rm ", want: []string{"local-disk", "poweroff", "reboot"}},
		{line: "imagetool menu mv reboot --before p", want: []string{"poweroff"}},
		{line: "imagetool push --arch a", want: []string{"amd64", "arm64"}},
		{line: "imagetool push --na", has: []string{"--name"}, not: []string{"--keys"}},
		{line: "imagetool ls ", not: []string{"complete_test.go"}},
	} {
		for _, shell := range []struct {
			name string
			args []string
		}{
			{"bash", []string{"-c", bashComplete, "bash", tc.line}},
			{"fish", []string{"-c", "imagetool completion fish | source; complete -C $argv[1]", tc.line}},
		} {
			if shell.name == "fish" && tc.want == nil {
				continue // it matches in the middle of words, too
			}
			cmd := exec.Command(shell.name, shell.args...)
			// The configuration is where it is by default.
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "XDG_CONFIG_HOME="+configHome(t, c), "HOME="+t.TempDir())
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v (Debian packages bash-completion and fish are needed)", shell.name, err)
			}
			got := []string{}
			for _, l := range strings.Split(string(out), "\n") {
				if l, _, _ = strings.Cut(l, "\t"); strings.TrimSpace(l) != "" {
					got = append(got, strings.TrimSpace(l))
				}
			}
			slices.Sort(got)
			if tc.want != nil && !slices.Equal(got, tc.want) {
				t.Errorf("%s: %q<Tab> offers %q; want %q", shell.name, tc.line, got, tc.want)
			}
			for _, s := range tc.has {
				if !slices.Contains(got, s) {
					t.Errorf("%s: %q<Tab> offers %q; want %q among it", shell.name, tc.line, got, s)
				}
			}
			for _, s := range tc.not {
				if slices.Contains(got, s) {
					t.Errorf("%s: %q<Tab> offers %q", shell.name, tc.line, s)
				}
			}
		}
	}
	script := filepath.Join(t.TempDir(), "_imagetool")
	out, _ := c.run(command.ExitOK, "completion", "zsh")
	if err := os.WriteFile(script, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("zsh", "-n", script).CombinedOutput(); err != nil {
		t.Errorf("zsh does not take the script: %v\n%s", err, out)
	}
	if !strings.HasPrefix(out, "#compdef imagetool") {
		t.Error("zsh's compinit does not find the script: it does not begin with #compdef")
	}
}

// configHome returns a folder that has c's configuration where it is looked
// for.
func configHome(t *testing.T, c *tool) string {
	t.Helper()
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "inetboot"), 0o700); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(c.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "inetboot", "imagetool.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return home
}
