# The module "normal" of GRUB for BIOS in this medium. The loader for Linux wants
# one function of it, which waits for a key after a message; the module of that
# name that GRUB brings has an interactive shell and 87 kB. After a failure there
# is GRUB's rescue prompt.
	.section .modname
	.asciz "normal"
	.section .module_license
	.asciz "LICENSE=GPLv3+"
	.text
	.globl grub_wait_after_message
	.type grub_wait_after_message, @function
grub_wait_after_message:
	ret
	.size grub_wait_after_message, .-grub_wait_after_message
	.section .note.GNU-stack, "", @progbits
