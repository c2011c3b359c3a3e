package command

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/publish"
)

// completionPatience is how long a shell waits for what only the store knows.
const completionPatience = 3 * time.Second

// candidates returns what an argument may be, where args are those before it.
type candidates func(ctx context.Context, w *where, args []string) []string

// complete says what the arguments of the commands below root are, for the
// scripts that imagetool completion writes. What is not said here is no file
// either: shells offer files for arguments by themselves, where none are meant.
func (a *app) complete(root *cobra.Command) {
	files := map[string]bool{"push": true, "trace add": true, "key sign": true, "sign": true, "key pending": true, "mirror": true, "mount": true, "script add": true}
	known := map[string]candidates{
		"key passphrase": first(a.keyNames),
		"key export":     first(a.keyNames),
		"key rotate":     a.roleNames,
		"key threshold":  first(a.roleNames),
		"publisher add":  first(a.publisherNames),
		"publisher rm":   first(a.publisherNames),
		"mirrors remove": a.mirrorURLs,
		"diff":           a.imageNames,
		"menu mv":        first(a.entryNames),
		"menu rm":        a.entryNames,
		"menu set":       first(a.entryNames),
		"mount":          first(a.imageNames),
		"pull":           first(a.imageNames),
		"rm":             a.imageNames,
		"show":           first(a.imageNames),
		"verify":         a.imageNames,
		"trace add":      first(a.imageNames),
		"trace show":     first(a.imageNames),
		"trace rm":       first(a.imageNames),
	}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		a.completeFlags(c)
		path := strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), root.Name()), " ")
		if c.HasSubCommands() || c.ValidArgsFunction != nil {
			return
		}
		f := known[path]
		directive := cobra.ShellCompDirectiveNoFileComp
		if files[path] {
			directive = cobra.ShellCompDirectiveDefault
		}
		c.ValidArgsFunction = func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if f == nil {
				return nil, directive
			}
			ctx, cancel := context.WithTimeout(c.Context(), completionPatience)
			defer cancel()
			list := f(ctx, whereOf(c), args)
			return slices.DeleteFunc(list, func(s string) bool { return slices.Contains(args, s) }), directive
		}
	}
	walk(root)
}

// completeFlags says what the values of flags are, where these are not files.
func (a *app) completeFlags(c *cobra.Command) {
	dirs := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	value := func(f candidates, directive cobra.ShellCompDirective) cobra.CompletionFunc {
		return func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			ctx, cancel := context.WithTimeout(c.Context(), completionPatience)
			defer cancel()
			return f(ctx, whereOf(c), nil), directive
		}
	}
	keys := value(a.keyNames, cobra.ShellCompDirectiveDefault) // public keys are in files
	entries := value(a.entryNames, cobra.ShellCompDirectiveNoFileComp)
	for name, f := range map[string]cobra.CompletionFunc{
		"keys": dirs, "to": dirs, "tmp": dirs, "add": keys, "remove": keys, "key": keys,
		"image": value(a.imageNames, cobra.ShellCompDirectiveNoFileComp), "parent": entries, "before": entries, "after": entries, "with": entries,
		"arch": cobra.FixedCompletions([]string{"amd64", "arm64"}, cobra.ShellCompDirectiveNoFileComp),
	} {
		if c.LocalNonPersistentFlags().Lookup(name) != nil {
			_ = c.RegisterFlagCompletionFunc(name, f) // fails only for flags that are not there
		}
	}
	for _, name := range []string{"name", "version", "title", "help-text", "cmdline", "kernel-version", "level", "expires", "lifetime", "threshold", "prefix", "token", "location", "url", "entry", "timeout", "proxy", "nameserver", "ip", "vlan", "mtu", "ntp", "warn"} {
		if c.LocalNonPersistentFlags().Lookup(name) != nil {
			_ = c.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
		}
	}
}

// whereOf returns the store and the keys that the flags typed so far name.
func whereOf(c *cobra.Command) *where {
	value := func(name string) string {
		if f := c.Flags().Lookup(name); f != nil {
			return f.Value.String()
		}
		return ""
	}
	return &where{to: value("to"), token: value("token"), tokenFile: value("token-file"), keys: value("keys")}
}

// first offers candidates for the first argument only.
func first(f candidates) candidates {
	return func(ctx context.Context, w *where, args []string) []string {
		if len(args) > 0 {
			return nil
		}
		return f(ctx, w, args)
	}
}

// Errors of these functions have no place to go on a command line that is
// being typed: there is nothing to offer then.

func (a *app) keyNames(_ context.Context, w *where, _ []string) []string {
	if a.findKeys(w) != nil {
		return nil
	}
	r, err := a.ring(w)
	if err != nil {
		return nil
	}
	names, err := fileNames(r)
	if err != nil {
		return nil
	}
	return names
}

func (a *app) roleNames(ctx context.Context, w *where, args []string) []string {
	return append(publish.TopRoles(), a.publisherNames(ctx, w, args)...)
}

func (a *app) publisherNames(ctx context.Context, w *where, _ []string) []string {
	c, err := a.newest(ctx, w)
	if err != nil {
		return nil
	}
	all, err := publish.Delegations(c.Trusted().Targets().Bytes())
	if err != nil {
		return nil
	}
	var out []string
	for _, d := range all {
		out = append(out, d.Name)
	}
	return out
}

func (a *app) mirrorURLs(ctx context.Context, w *where, _ []string) []string {
	c, err := a.newest(ctx, w)
	if err != nil {
		return nil
	}
	list, err := c.Mirrors(ctx)
	if err != nil {
		return nil
	}
	var out []string
	for _, m := range list {
		out = append(out, m.URL)
	}
	return out
}

func (a *app) entryNames(ctx context.Context, w *where, _ []string) []string {
	c, err := a.newest(ctx, w)
	if err != nil {
		return nil
	}
	menu, err := c.Menu(ctx)
	if err != nil {
		return nil
	}
	var out []string
	var walk func(entries []catalog.Entry)
	walk = func(entries []catalog.Entry) {
		for _, e := range entries {
			out = append(out, e.ID)
			walk(e.Entries)
		}
	}
	walk(menu.Entries)
	return out
}

func (a *app) imageNames(ctx context.Context, w *where, _ []string) []string {
	c, err := a.newest(ctx, w)
	if err != nil {
		return nil
	}
	names, err := c.Names(ctx)
	if err != nil {
		return nil
	}
	var out []string
	for _, n := range names {
		if image, ok := strings.CutPrefix(strings.TrimSuffix(n, ".json"), "images/"); ok {
			out = append(out, image)
		}
	}
	slices.Sort(out)
	return out
}
