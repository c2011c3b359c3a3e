package media

import (
	"debug/elf"
	"errors"
	"fmt"
	"slices"
)

// ErrModule is wrapped when GRUB's modules are others than those that the
// small module was made for.
var ErrModule = errors.New("this GRUB needs more than the small module has")

// checkSmall fails if the loader for Linux uses more of the module that it
// depends on than grub/normal.s has.
func checkSmall(loader, module string) error {
	wanted, err := symbols(loader, func(s elf.Symbol) bool { return s.Section == elf.SHN_UNDEF })
	if err != nil {
		return err
	}
	has, err := symbols(module, func(s elf.Symbol) bool {
		return s.Section != elf.SHN_UNDEF && elf.ST_BIND(s.Info) == elf.STB_GLOBAL
	})
	if err != nil {
		return err
	}
	for _, s := range wanted {
		if slices.Contains(has, s) && s != "grub_wait_after_message" {
			return fmt.Errorf("%w: %s uses %s of %s", ErrModule, loader, s, module)
		}
	}
	return nil
}

func symbols(file string, want func(elf.Symbol) bool) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read GRUB's module %s: %w", file, err)
	}
	defer f.Close()
	all, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("read the symbols of %s: %w", file, err)
	}
	var names []string
	for _, s := range all {
		if s.Name != "" && want(s) {
			names = append(names, s.Name)
		}
	}
	return names, nil
}
