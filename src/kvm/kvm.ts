/** The virtual machine monitor of the kernel: wires the parts of src/kvm. (First: the signatures.) */
export {};
